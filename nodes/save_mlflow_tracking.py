from promptflow.core import tool

from pf_mlflow import record_nodes as name_nodes


@tool
def save_mlflow_tracking(result: object, line: str, record_nodes: list = None) -> object:
    """Hand the result on; say whose inputs, output and tokens the child run shows (default: every LLM node's)."""
    name_nodes(line, record_nodes)
    return result
