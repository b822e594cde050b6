"""Tags by which the runs of a batch and of its lines are made and found again. Needs no mlflow."""

from __future__ import annotations

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.keys import readable

__all__ = ["LINE", "SINGLE", "child_name", "child_tags", "run_tags"]

LINE = "promptflow.line_number"
"""Tag of a line's run."""
SINGLE = "promptflow.single_number"
"""Tag of a single execution: which of its process's, so that it is written once."""


def child_name(line_number: int) -> str:
    """Return the name of a line's child run."""
    return f"Run {line_number:09}"


def run_tags(batch: Batch, run_name: str) -> dict[str, str]:
    """Return the tags that every run of a batch, and the run of a single execution, is created with."""
    return {
        "framework": "Prompt Flow",
        "promptflow.run_id": readable(run_name),
        "promptflow.batch_uid": batch.uid,
        "mlflow.user": readable(batch.user),
        "mlflow.source.name": readable(batch.flow_name),
    }


def child_tags(batch: Batch, line_number: int, parent_run_id: str | None) -> dict[str, str]:
    """Return the tags that a line's run is created with; that of a single execution has no parent."""
    if parent_run_id is None:
        return run_tags(batch, batch.name) | {SINGLE: str(line_number)}
    line = {LINE: str(line_number), "mlflow.parentRunId": parent_run_id}
    return run_tags(batch, batch.name) | line
