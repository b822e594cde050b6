"""What every writer of a batch has in common, whether it makes runs or adds to those that are there."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pf_mlflow.errors import TrackingError
from pf_mlflow.projection.description import description, worst_metric
from pf_mlflow.projection.existing_runs import ExistingRuns
from pf_mlflow.projection.shared_views import first_view, shared_views
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.projection.write_result import Changes, LineWritten
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.source import Source
from pf_mlflow.tracking.links import BATCHES_VIEW
from pf_mlflow.tracking.prices import Prices

if TYPE_CHECKING:  # which imports mlflow
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["Writer"]

log = logging.getLogger(__name__)


class Writer(ABC):
    """Writes one batch. `write` is safe for threads that write different lines; all else is for one thread.

    Args:
        store: Where the batch's runs are or will be.
        source: The batch.
    """

    def __init__(self, store: StoreWriter, source: Source) -> None:
        self.store = store
        self.source = source
        self.batch = source.batch
        self.prices = Prices(self.batch.prices)
        self.existing = ExistingRuns()
        """The batch's parent run, and what MLflow has of its lines."""
        self.changes = Changes()
        self.remark: str | None = None
        """What is to be told of a batch of which MLflow has all, once it is closed."""

    @abstractmethod
    def read_existing(self) -> None:
        """Read what MLflow has of the batch."""

    def in_doubt(self, decided: Iterable[LineRecord]) -> set[int]:
        """Return the lines whose runs may not show what was decided on them: their status and outputs."""
        return set()

    def amends(self, record: LineRecord) -> bool:
        """Tell whether a line ended otherwise than its run shows, so that it is to be written once more."""
        return False

    @abstractmethod
    def open_parent(self) -> str | None:
        """See to the parent run and return its id, `None` if the batch has none."""

    def transaction(self) -> AbstractContextManager[StoreWriter]:
        """Return what several lines are written through: with a database all that the block writes, or nothing."""
        return self.store.transaction()

    @abstractmethod
    def write(
        self, line_number: int, opened: float, record: LineRecord | None, store: StoreWriter | None = None
    ) -> LineWritten:
        """Write a line; what was written counts when it is noted.

        Args:
            line_number: The line.
            opened: When it began, in Unix seconds.
            record: What it was; `None` while it goes on.
            store: The transaction that it is part of, if any.

        Raises:
            TrackingRefused: the whole batch cannot be written.
            TrackingDown: MLflow does not answer; the same line may be written again.
        """

    @abstractmethod
    def note(self, written: LineWritten) -> None:
        """Count a line that was written."""

    def _note_texts(self, written: LineWritten) -> None:
        """Count a complete line of whose long texts no file could keep the whole before, if one has now."""
        lacking = self.existing.lacking_texts
        if written.lacks_texts:
            lacking.add(written.line_number)
        elif written.line_number in lacking:
            lacking.discard(written.line_number)
            self.changes.completed += 1

    def show_at_all(self) -> None:
        """Have the page that links lead to, while there has been no batch of which more could be shown."""
        try:
            self.store.keep_views(lambda shown: {} if BATCHES_VIEW in shown else first_view())
        except TrackingError as error:
            log.warning("the pages of batch %s: %s", self.batch.name, error)

    def show_well(self, existing: ExistingRuns, name: str, summary: BatchSummary, columns: Iterable[str]) -> None:
        """Have MLflow's pages show a batch well; that they do not is told in the log alone.

        Args:
            existing: The batch's runs as MLflow showed them last, with the parent.
            name: The batch's.
            summary: Its sums.
            columns: What its lines show.
        """
        parent = existing.parent
        assert parent is not None
        worst = existing.tally.worst(worst_metric(summary))
        try:
            self.store.keep_views(lambda shown: shared_views(parent, summary, columns, shown))
            text = description(name, self.store.experiment_id, summary, worst, existing.run_id)
            self.store.describe(parent.run_id, text, parent.values.tags)
        except TrackingError as error:
            log.warning("the pages of batch %s: %s", name, error)

    @abstractmethod
    def close_parent(self) -> BatchSummary:
        """Write the sums of all lines as MLflow shows them, and return them.

        Raises:
            TrackingRefused: the runs are not there any more.
            TrackingDown: MLflow does not answer, or does not show what it had taken.
        """
