"""Who writes a batch into MLflow, and what was done there: for a line, and for the batch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pf_mlflow.projection.existing_runs import ExistingRuns
from pf_mlflow.projection.summary import BatchSummary, LineStats
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.score import Score
from pf_mlflow.records.source import Source

if TYPE_CHECKING:
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["Changes", "Writer", "LineWritten"]


@dataclass(frozen=True)
class LineWritten:
    """What was done for a line."""

    line_number: int
    run_id: str
    stats: LineStats | None
    """`None` while the line goes on."""
    made: bool = False
    """Whether MLflow had no run of the line before."""
    end_ms: int = 0
    refused: str | None = None
    """Why MLflow did not take the line's values."""
    scores: tuple[Score, ...] = ()


@dataclass
class Changes:
    """How many runs were touched, and what was done to the parent."""

    made: int = 0
    completed: int = 0
    removed: int = 0
    refused: int = 0
    parent: str = ""

    def __bool__(self) -> bool:
        return bool(self.made or self.completed or self.removed or self.parent)


class Writer(Protocol):
    """Writes one batch. `write` is safe for threads that write different lines; `note` is for one thread."""

    projection: StoreWriter
    source: Source
    batch: Batch
    existing: ExistingRuns
    """The batch's parent run, and what MLflow has of its lines."""
    changes: Changes
    has_doubt: bool
    """Whether MLflow may have made a run of which no answer came."""

    def read_existing(self) -> None:
        """Read what MLflow has of the batch."""

    def open_parent(self) -> str | None:
        """See to the parent run and return its id, `None` if the batch has none."""

    def transaction(self) -> AbstractContextManager[None]:
        """Write all lines of the block, or none if an error leaves it; for databases, and for one thread."""

    def write(self, line_number: int, opened: float, record: LineRecord | None) -> LineWritten:
        """Write a line; `opened` in Unix seconds; without a record it goes on."""

    def note(self, written: LineWritten) -> None:
        """Count a line that was written."""

    def close_parent(self) -> BatchSummary:
        """Write the sums of all lines, and return them."""
