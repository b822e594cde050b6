"""The run that a script or notebook has active in MLflow, if it uses MLflow at all: imports no mlflow."""

from __future__ import annotations

import sys
from dataclasses import dataclass

__all__ = ["ActiveRun", "active_run"]


@dataclass(frozen=True)
class ActiveRun:
    """A run between `mlflow.start_run()` and its end."""

    run_id: str
    experiment_id: str
    tracking_uri: str

    def variables(self) -> dict[str, str]:
        """Return its store and experiment as settings, for where nothing else says where a batch goes."""
        return {"MLFLOW_TRACKING_URI": self.tracking_uri, "MLFLOW_EXPERIMENT_ID": self.experiment_id}


def active_run() -> ActiveRun | None:
    """Return the run that this thread has active, `None` if there is none."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not (active := mlflow.active_run()):
        return None
    return ActiveRun(active.info.run_id, active.info.experiment_id, mlflow.get_tracking_uri())
