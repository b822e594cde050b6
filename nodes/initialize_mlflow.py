from promptflow.core import tool

from pf_mlflow import attach, open_line

attach()


@tool
def initialize_mlflow() -> str:
    """Show this line in MLflow as a running child run; return its handle for the other two nodes."""
    return open_line()
