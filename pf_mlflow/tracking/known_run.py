"""A run as MLflow shows it, and the tags by which it is made and found again. Needs no mlflow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.keys import readable
from pf_mlflow.records.line import INTERRUPTED
from pf_mlflow.tracking.run_payload import NOT_KEPT, NOT_LOGGED, RunPayload

__all__ = [
    "KIND",
    "LINE",
    "PARENT",
    "SINGLE",
    "KnownRun",
    "batch_tags",
    "child_name",
    "child_tags",
    "parent_tags",
    "restoring",
]

LINE = "promptflow.line_number"
"""Tag of a line's run."""
KIND = "promptflow.kind"
"""Tag of a run: `batch` or `line`."""
PARENT = "mlflow.parentRunId"
"""MLflow's tag of a run: the one that it is below."""
SINGLE = "promptflow.single_number"
"""Tag of a single execution: which of its process's, so that it is written once."""


def child_name(line_number: int) -> str:
    """Return the name of a line's run."""
    return f"Run {line_number:09}"


def batch_tags(batch: Batch) -> dict[str, str]:
    """Return the tags that every run of a batch, and the run of a single execution, is created with."""
    return {
        "framework": "Prompt Flow",
        "promptflow.run_id": readable(batch.name),
        "promptflow.batch_uid": batch.uid,
        "mlflow.user": readable(batch.user),
        "mlflow.source.name": readable(batch.flow_name),
    }


def parent_tags(batch: Batch) -> dict[str, str]:
    """Return the tags that the run of a batch is created with."""
    return batch_tags(batch) | {KIND: "batch"} | ({PARENT: batch.outer_run_id} if batch.outer_run_id else {})


def child_tags(batch: Batch, line_number: int, parent_run_id: str | None) -> dict[str, str]:
    """Return the tags that a line's run is created with; that of a single execution has no parent."""
    if parent_run_id is None:
        return batch_tags(batch) | {SINGLE: str(line_number)}
    return batch_tags(batch) | {KIND: "line", LINE: str(line_number), PARENT: parent_run_id}


def restoring(run_id: str) -> str:
    """Return the command that brings a run back which somebody deleted."""
    return f"mlflow runs restore --run-id {run_id}"


@dataclass(frozen=True)
class KnownRun:
    """A run as MLflow shows it; `line_number` is `None` for a parent."""

    run_id: str
    line_number: int | None
    parent_run_id: str | None
    values: RunPayload

    @classmethod
    def of(cls, run: Any) -> KnownRun:
        """Return what MLflow's `Run` shows."""
        data, info = run.data, run.info
        number = data.tags.get(LINE) or data.tags.get(SINGLE)
        values = RunPayload(info.status, info.start_time, info.end_time or 0, data.params, data.metrics, data.tags)
        return cls(info.run_id, int(number) if number else None, data.tags.get(PARENT), values)

    @property
    def is_over(self) -> bool:
        """Whether its status is final."""
        return self.values.status != "RUNNING"

    @property
    def is_complete(self) -> bool:
        """Whether it also shows all that the line was: it was neither cut off nor were its values refused."""
        cut_off = self.values.tags.get("promptflow.error_type") == INTERRUPTED
        return self.is_over and not cut_off and NOT_LOGGED not in self.values.tags

    @property
    def not_kept(self) -> set[str]:
        """The tags that name what it shows cut and keeps nowhere whole."""
        return {key for key in self.values.tags if key.startswith(NOT_KEPT)}

    def lacks(self, payload: RunPayload) -> RunPayload:
        """Return what it does not show of a parent's values; of metrics also those that are not true any more."""
        lacking = payload.without(self.values)
        known = self.values.metrics
        lacking.metrics = {key: value for key, value in payload.metrics.items() if not _same(value, known.get(key))}
        if lacking.metrics.keys() & known.keys():
            lacking.end_ms = 0  # now: of several values MLflow shows the latest, of one moment's the highest
        return lacking

    def updated(self, payload: RunPayload) -> KnownRun:
        """Return it with a parent's values."""
        has = self.values
        status = has.status if payload.status == "RUNNING" else payload.status
        merged = RunPayload(status, has.start_ms, payload.end_ms, {**has.params, **payload.params})
        merged.metrics, merged.tags = {**has.metrics, **payload.metrics}, {**has.tags, **payload.tags}
        return replace(self, values=merged)


def _same(one: float, other: float | None) -> bool:
    return other is not None and math.isclose(one, other, rel_tol=1e-9)
