import os

from mlflow import MlflowClient
from promptflow.core import tool
from promptflow.tracing._operation_context import OperationContext


@tool
def start_run() -> str:
    """Make the child run; its parent is the job on Azure ML, and told by the environment on this machine."""
    line = OperationContext.get_instance().get_context_dict()["_otel_attributes"]["line_number"]
    client = MlflowClient()
    parent = client.get_run(os.environ["ARTICLE_PARENT"]).info
    tags = {"framework": "Prompt Flow", "mlflow.parentRunId": parent.run_id}
    return client.create_run(parent.experiment_id, run_name=f"Run {int(line):09}", tags=tags).info.run_id
