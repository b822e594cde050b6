"""A batch in the spool, as whoever delivers it sees it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pf_mlflow.delivery.write_queue import QueuedLine
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import LineRecord
from pf_mlflow.spool.store import Spool

__all__ = ["SpooledBatch", "spool_may_fail"]

log = logging.getLogger(__name__)

_FLUSH_EVERY = 0.1
"""Seconds between two writes: the spool's lock is shared with running lines."""
_FLUSH_AGAIN = 1.0
"""Seconds after a write that the spool did not take."""


@contextmanager
def spool_may_fail() -> Iterator[None]:
    """Go on without the spool: a full disk keeps no line from MLflow."""
    try:
        yield
    except sqlite3.OperationalError as error:
        log.warning("the spool cannot be written, which keeps no line from MLflow: %s", error)


class SpooledBatch:
    """Reads each record once, in the order in which they came, and takes out what MLflow has, many lines at once.

    Args:
        spool: Holds the batch.
        uid: The batch's.
        dry_run: Whether nothing is written to MLflow, and the spool is left as it is.
    """

    def __init__(self, spool: Spool, uid: str, dry_run: bool = False) -> None:
        self._spool = spool
        self._uid = uid
        self._dry_run = dry_run
        self._last_seq = 0
        self._run_ids: dict[int, str] = {}
        self._delivered: list[tuple[int, int]] = []
        self._refused: dict[int, tuple[str, int | None]] = {}
        self._flush_from = 0.0
        self._is_ended = False

    def opened(self) -> list[QueuedLine]:
        """Return the lines that go on and have no child run yet."""
        opened = self._spool.opened(self._uid).items()
        known = self._run_ids.keys() | self._refused.keys()
        return [QueuedLine(number, since) for number, since in opened if number not in known]

    def completed(self, limit: int) -> list[QueuedLine]:
        """Return lines that are over and were not read before."""
        lines = self._spool.completed(self._uid, self._last_seq, limit)
        self._last_seq = lines[-1].seq if lines else self._last_seq
        return [QueuedLine(one.line_number, one.opened, LineRecord.from_json(one.record), one.seq) for one in lines]

    def refused(self) -> dict[int, str]:
        """Return why MLflow refused lines whose records are kept, by number."""
        return self._spool.refused(self._uid) | {number: reason for number, (reason, _) in self._refused.items()}

    @property
    def has_lines(self) -> bool:
        """Whether it holds lines, open or over, that MLflow does not fully have."""
        return self._spool.waiting(self._uid) > 0

    def interrupted(self) -> dict[int, float]:
        """Return when the lines were opened that are not over, by number."""
        return self._spool.unfinished(self._uid)

    def draft(self, line_number: int) -> LineRecord | None:
        """Return what was known of a line when it was opened."""
        text = self._spool.draft(self._uid, line_number)
        return LineRecord.from_json(text) if text else None

    def settle(self, line: QueuedLine, written: LineWritten) -> None:
        """Note what became of a line, spooled or not."""
        if self._dry_run or not line.is_spooled:
            return
        if written.refused:
            self._refused[line.line_number] = written.refused, line.seq
        elif line.seq is not None:
            self._delivered.append((line.line_number, line.seq))
        else:
            self._run_ids[line.line_number] = written.run_id

    def flush(self, at_once: bool = True) -> None:
        """Write down what was noted; if the spool cannot take it now, or has just taken much, the next time."""
        is_due = at_once or time.monotonic() >= self._flush_from
        if not is_due or not self._has_notes:
            return
        self._flush_from = time.monotonic() + _FLUSH_AGAIN
        with spool_may_fail():
            self._spool.settle(self._uid, self._run_ids, self._delivered)
            self._run_ids, self._delivered = {}, []
            for number, (reason, seq) in self._refused.items():
                self._spool.refuse(self._uid, number, reason, seq)
            self._refused = {}
            self._flush_from = time.monotonic() + _FLUSH_EVERY

    @property
    def _has_notes(self) -> bool:
        return bool(self._run_ids or self._delivered or self._refused)

    def reopen(self, batch: Batch) -> None:
        """Make the batch known, and let what MLflow refused be tried again."""
        if not self._dry_run:
            with spool_may_fail():
                self._spool.add_batch(batch)
                self._spool.retry_refused(self._uid)

    @property
    def is_settled(self) -> bool:
        """Whether the spool took all of it: a line that waits there now came later."""
        return self._is_ended and not self._has_notes

    def end_lines(self) -> None:
        """Write down the rest, and that no line is open any more."""
        self.flush()
        if not self._dry_run:
            with spool_may_fail():
                self._spool.drop_opened(self._uid)
                self._is_ended = True

    def set_parent(self, run_id: str | None, experiment_id: str) -> None:
        """Write down which run is the batch's."""
        if not self._dry_run:
            with spool_may_fail():
                self._spool.set_parent(self._uid, run_id, experiment_id)

    def close(self, summary: BatchSummary, is_awaited: bool = True) -> None:
        """Write down that MLflow has all of the batch; texts are only for a client who waits for its sums."""
        if not self._dry_run:
            with spool_may_fail():
                kept = summary if is_awaited else summary.without_texts()
                self._spool.close_batch(self._uid, kept.to_json())
