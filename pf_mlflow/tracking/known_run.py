"""A run as MLflow shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from pf_mlflow.records.line import INTERRUPTED
from pf_mlflow.tracking.run_payload import NOT_LOGGED, RunPayload
from pf_mlflow.tracking.run_tags import LINE, SINGLE

__all__ = ["KnownRun"]


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
        return cls(info.run_id, int(number) if number else None, data.tags.get("mlflow.parentRunId"), values)

    @property
    def is_over(self) -> bool:
        """Whether its status is final."""
        return self.values.status != "RUNNING"

    @property
    def is_complete(self) -> bool:
        """Whether it also shows all that the line was: it was neither cut off nor were its values refused."""
        cut_off = self.values.tags.get("promptflow.error_type") == INTERRUPTED
        return self.is_over and not cut_off and NOT_LOGGED not in self.values.tags

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
        merged.metrics = {**has.metrics, **payload.metrics}
        return replace(self, values=merged)


def _same(one: float, other: float | None) -> bool:
    return other is not None and math.isclose(one, other, rel_tol=1e-9)
