"""What yields a batch's lines and its facts: a local batch today, anything that ran lines tomorrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import LineRecord

__all__ = ["BatchFacts", "Provenance", "Source"]


@dataclass(frozen=True)
class BatchFacts:
    """What is known of a batch as a whole. Times are Unix seconds."""

    display_name: str
    """The batch's name as people see it."""
    start: float | None = None
    end: float | None = None
    """When the batch ended; of one that was killed, and of one that goes on, when it wrote last."""
    status: str | None = None
    """promptflow's word, such as `Running` or `Completed`; `None` where nobody keeps any."""
    base_batch: str | None = None
    """Name of the batch whose lines this one scores."""
    error: str | None = None
    """Why it failed as a whole, or what sums its lines up did."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers that its flow's own aggregation has logged."""


@dataclass(frozen=True)
class Provenance:
    """What a batch was made of, as far as it is known."""

    variant: str | None = None
    data: str | None = None
    """Name of the data file."""
    data_hash: str | None = None
    flow_hash: str | None = None
    """Hash of the files of the flow that ran; known when the batch is over."""
    git_commit: str | None = None
    copied_from: str | None = None
    """Which lines are those of an earlier batch, with their flow and data."""


class Source(Protocol):
    """One batch, wherever its lines were executed. Knows nothing of MLflow."""

    batch: Batch

    def facts(self) -> BatchFacts:
        """Return what is known of the batch by now."""

    def provenance(self) -> Provenance:
        """Return what the batch was made of; this may read large files."""

    def is_running(self) -> bool:
        """Tell at once whether lines may still come."""

    def over_since(self) -> float | None:
        """Return since when no line can come any more, by `time.monotonic()`; `None` while one may."""

    def lines(self, wanted: Callable[[int], bool]) -> Iterator[LineRecord]:
        """Yield the lines whose numbers are wanted, as far as the source has kept them."""

    def decided(self) -> Iterator[LineRecord]:
        """Yield the last word on each line of a batch that is over, with no more than status and outputs.

        Outputs that the line's run does not show may be left out; of a source that decides nothing, no line.
        """

    def other_columns(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield by line number what the batch's data have that went into no input, without secrets."""

    def folder_gone(self) -> str | None:
        """Return where the lines of a batch that is over were kept, if nothing is there any more."""

    def unread(self, known: int, lacks: Callable[[int], bool]) -> str | None:
        """Tell which lines that are lacked were kept but cannot be read, `None` if there are none.

        Args:
            known: How many lines are known.
            lacks: Tells whether a line is lacked.
        """

    def named_runs(self) -> dict[int, str]:
        """Return the child run ids that the batch's outputs name, by line."""
