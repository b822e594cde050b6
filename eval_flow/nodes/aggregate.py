from promptflow.core import log_metric, tool

from pf_mlflow import sum_up


@tool
def aggregate(scores: list) -> dict:
    """Sum the lines' scores up as promptflow's metrics; MLflow's parent run shows the same."""
    sums = sum_up(scores)
    for name, value in sums.items():
        log_metric(name, value)
    return sums
