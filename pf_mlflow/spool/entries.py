"""What the spool holds of lines and batches, as whoever empties it reads them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from pf_mlflow.records.batch import Batch

__all__ = ["BatchState", "OpenWorker", "SpooledLine"]


@dataclass(frozen=True)
class SpooledLine:
    """A line that is over and that MLflow does not know all of yet."""

    line_number: int
    opened: float
    """Unix seconds."""
    record: str
    """The `LineRecord` as JSON."""
    seq: int
    """The record's place among all that came; a line that is executed anew gets another one."""


@dataclass(frozen=True)
class OpenWorker:
    """A process that executes a line, and since when (Unix seconds)."""

    pid: int
    started: float
    since: float


@dataclass(frozen=True)
class BatchState:
    """What is known of a batch besides its lines."""

    batch: Batch
    parent_run_id: str | None
    experiment_id: str | None
    trouble: str | None
    """What keeps lines from MLflow, as a sentence; `None` while all is well."""
    summary: str | None
    """The `BatchSummary` of a closed batch as JSON."""
    closed: float | None
    """When MLflow had all of it, in Unix seconds; `None` before."""
    owner_pid: int | None
    """The process that delivers it, or did last."""
    owner_started: float | None
    beat: float | None
    """The owner's last sign of life, by `time.monotonic()`."""

    @classmethod
    def of(cls, row: sqlite3.Row) -> BatchState:
        """Return the state in a row of table `batch`."""
        return cls(
            batch=Batch.from_json(row["info"]),
            parent_run_id=row["parent_run_id"],
            experiment_id=row["experiment_id"],
            trouble=row["told"],
            summary=row["summary"],
            closed=row["closed"],
            owner_pid=row["owner_pid"],
            owner_started=row["owner_started"],
            beat=row["beat"],
        )
