import json
import os
import time
from pathlib import Path

from mlflow import MlflowClient
from promptflow.core import tool
from promptflow.tracing._operation_context import OperationContext

PARAMS = ("temperature", "top_p", "max_tokens", "topic")
METRICS = ("completion_tokens", "prompt_tokens", "total_tokens", "duration")


@tool
def log_values(result: str, run_id: str) -> str:
    """Log, one by one, what promptflow has written down of the LLM node; look up the batch's name each time."""
    client = MlflowClient()
    node = _node_file()
    client.log_param(run_id, "run_display_name", client.get_run(os.environ["ARTICLE_PARENT"]).info.run_name)
    for name in PARAMS:
        client.log_param(run_id, f"input_{name}", node["inputs"][name])
    client.log_param(run_id, "output", node["output"])
    for name in METRICS:
        client.log_metric(run_id, name, node["system_metrics"][name])
    return result


def _node_file(patience: float = 60.0) -> dict:
    """Wait for the LLM node's file, which another process writes after the node has returned."""
    context = OperationContext.get_instance().get_context_dict()
    line = int(context["_otel_attributes"]["line_number"])
    folder = Path(os.environ["PF_HOME_DIRECTORY"], ".runs", context["root_run_id"], "node_artifacts", "joke")
    until = time.monotonic() + patience
    while True:
        try:
            return json.loads((folder / f"{line:09}.jsonl").read_text("utf-8"))["run_info"]
        except (OSError, ValueError):  # not there, or half written
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
