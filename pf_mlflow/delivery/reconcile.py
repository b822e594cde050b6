"""Brings MLflow in line with all that is known of a batch, by its spooled records and by what its source kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from pf_mlflow.delivery.spooled_batch import SpooledBatch
from pf_mlflow.delivery.write_queue import QueuedLine, WriteQueue
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.projection.writer import Writer
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED, INTERRUPTED, LineRecord

__all__ = ["Reconciliation"]

_POLL = 0.05
"""Seconds to wait for lines that are being written."""
_PAUSE = 0.03
"""Seconds between two looks at a spool into which lines come."""
_PAGE = 100
"""Records that are read at once when the batch is over."""


class Reconciliation:
    """The lines of one batch on their way to MLflow.

    Args:
        writer: Has read what MLflow has of the batch.
        spooled: Holds what did not reach MLflow yet.
        queue: Writes the lines.
        on_line: Called with each line that was written.
    """

    def __init__(
        self,
        writer: Writer,
        spooled: SpooledBatch,
        queue: WriteQueue,
        on_line: Callable[[QueuedLine, LineWritten], None] = lambda line, written: None,
    ) -> None:
        self._writer = writer
        self._spooled = spooled
        self._queue = queue
        self._on_line = on_line

    def follow(self, on_look: Callable[[], None] = lambda: None) -> None:
        """Write lines as they come, until the batch is over and none is left; `on_look` is called all the while."""
        while True:
            is_over = self._writer.source.over_since() is not None
            self._settle()
            lines = self._spooled.opened() + self._spooled.completed(self._queue.room)
            for line in lines:
                self._queue.offer(line)
            if is_over and not lines and self._queue.is_idle:
                return
            on_look()
            time.sleep(_PAUSE)

    def complete(self) -> None:
        """Write what MLflow lacks: what was spooled, what only the source knows, what ended otherwise, and the rest.

        Long texts that no file could keep are offered once more.
        """
        for lines in (self._from_spool, self._from_source, self._amended, self._late_texts, self._interrupted):
            for line in lines():
                while not self._queue.room:
                    self._settle()
                self._queue.offer(line)
            while not self._queue.is_idle:
                self._settle()
        self._spooled.end_lines()

    def _settle(self) -> None:
        for line, written in self._queue.finished(_POLL):
            self._writer.note(written)
            self._spooled.settle(line, written)
            self._on_line(line, written)
        self._spooled.flush(at_once=False)

    def _from_spool(self) -> Iterator[QueuedLine]:
        while lines := self._spooled.completed(_PAGE):
            yield from lines

    def _from_source(self) -> Iterator[QueuedLine]:
        refused, complete = self._spooled.refused(), self._writer.existing.complete
        for record in self._writer.source.lines(lambda number: number not in complete and number not in refused):
            yield QueuedLine(record.line_number, record.start, record)

    def _amended(self) -> Iterator[QueuedLine]:
        source = self._writer.source
        doubtful = self._writer.in_doubt(source.decided())
        for record in source.lines(doubtful.__contains__) if doubtful else ():
            if self._writer.amends(record):
                yield QueuedLine(record.line_number, record.start, record)

    def _late_texts(self) -> Iterator[QueuedLine]:
        lacking = frozenset(self._writer.existing.lacking_texts)
        for record in self._writer.source.lines(lacking.__contains__) if lacking else ():
            yield QueuedLine(record.line_number, record.start, record)

    def _interrupted(self) -> Iterator[QueuedLine]:
        batch, existing = self._writer.batch, self._writer.existing
        end = self._writer.source.facts().end or time.time()
        opened = self._spooled.interrupted()
        opened |= {n: run.values.start_ms / 1000 for n, run in existing.incomplete.items() if not run.is_over}
        for number in sorted(opened.keys() - existing.complete.keys()):
            if not (known := existing.incomplete.get(number)) or not known.is_over:
                draft = self._spooled.draft(number)
                yield QueuedLine(number, opened[number], _interrupted(batch, number, opened[number], end, draft))


def _interrupted(batch: Batch, number: int, opened: float, end: float, draft: LineRecord | None) -> LineRecord:
    """Return the record of a line of which nothing is known but that it had started, and perhaps its inputs."""
    return replace(
        draft or LineRecord(batch.uid, number, FAILED, opened, opened),
        end=max(opened, end),
        run_name=batch.name,
        error="the batch ended before the line did",
        error_type=INTERRUPTED,
    )
