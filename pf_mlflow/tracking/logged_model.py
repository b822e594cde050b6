"""The logged model that lines' runs are outputs of, so that MLflow's page *Evaluation runs* leaves them out."""

from __future__ import annotations

import re
from typing import Any

from mlflow.entities import LoggedModelStatus

__all__ = ["model_of_flow"]

_TYPE = "prompt flow"
_NOT_IN_NAMES = re.compile(r"[/:.%\"'`]")


def model_of_flow(store: Any, experiment_id: str, flow_name: str) -> str:
    """Return the id of the logged model that stands for a flow in an experiment of MLflow's store; made if need be."""
    name = _NOT_IN_NAMES.sub("_", flow_name) or _TYPE
    found = store.search_logged_models([experiment_id], filter_string=f"name = '{name}'", max_results=10)
    ours = next((model for model in found if model.model_type == _TYPE), None)
    if ours is None:
        ours = store.create_logged_model(experiment_id, name=name, model_type=_TYPE)
        store.finalize_logged_model(ours.model_id, LoggedModelStatus.READY)
    return str(ours.model_id)
