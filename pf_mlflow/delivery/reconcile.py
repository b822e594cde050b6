"""Brings MLflow in line with all that is known of a batch that is over: its spooled records and promptflow's folder."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from pf_mlflow.delivery.write_queue import Work
from pf_mlflow.projection.write_result import Writer, Written
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED, INTERRUPTED, LineRecord
from pf_mlflow.spool.store import Pending, Spool

__all__ = ["Mending", "Settled"]

log = logging.getLogger(__name__)

_WAIT = 0.1
"""Seconds between two looks at what was written."""


class Settled:
    """Takes over into the spool what was written, many lines at once: its lock is shared with running lines.

    With `rehearsed` nothing was written, and the spool is left as it is.
    """

    def __init__(self, spool: Spool, batch_uid: str, writer: Writer, rehearsed: bool = False) -> None:
        self._spool = spool
        self._rehearsed = rehearsed
        self._batch_uid = batch_uid
        self._writer = writer
        self._pending: dict[int, Pending] = {}
        self._run_ids: dict[int, str] = {}
        self._delivered: set[tuple[int, int]] = set()
        self._flushed = 0.0

    def step(self, line: Pending) -> Callable[[], Written]:
        """Return what writes a spooled line; while one is being written, what it was then is what counts."""
        return partial(self._write, self._pending.setdefault(line.line_number, line))

    def _write(self, line: Pending) -> Written:
        text = self._spool.record(self._batch_uid, line.line_number) if line.is_complete else None
        return self._writer.write(line.line_number, line.opened, LineRecord.from_json(text) if text else None)

    def note(self, written: Written) -> None:
        """Count a line that was written, spooled or not."""
        self._writer.note(written)
        line = self._pending.pop(written.line_number, None)
        if line is None:
            return
        if written.refused:
            self._spool.refuse(self._batch_uid, line.line_number, written.refused)
        elif line.is_complete:
            self._delivered.add((line.line_number, line.version))
        else:
            self._run_ids[line.line_number] = written.run_id

    def flush_now_and_then(self) -> None:
        """Write down what was noted, unless that has just been done."""
        if time.monotonic() - self._flushed >= _WAIT:
            self.flush()

    def flush(self) -> None:
        """Write down what was noted; if the spool cannot take it now, the next time."""
        self._flushed = time.monotonic()
        if self._rehearsed or not (self._run_ids or self._delivered):
            return
        try:
            self._spool.settle(self._batch_uid, self._run_ids, self._delivered)
        except sqlite3.OperationalError as error:
            log.warning("the spool cannot be written, which does not keep lines from MLflow: %s", error)
            return
        self._run_ids, self._delivered = {}, set()

    def __len__(self) -> int:
        return len(self._delivered)

    def has(self, line: Pending) -> bool:
        """Tell whether a spooled line is in MLflow already, and only the spool does not know it."""
        return (line.line_number, line.version) in self._delivered

    def finish(self) -> None:
        """Write down the rest, and that no line is open any more: the batch is over."""
        self.flush()
        if not self._rehearsed:
            self._spool.drop_opened(self._batch_uid)


class Mending:
    """One pass over a batch that is over.

    Args:
        writer: Has taken up what MLflow has of the batch.
        spool: Holds what did not reach MLflow before.
        settled: Takes over what was written.
        watch: Is told of each line that was written.
    """

    def __init__(
        self,
        writer: Writer,
        spool: Spool,
        settled: Settled,
        watch: Callable[[Written], None] = lambda written: None,
    ) -> None:
        self.writer = writer
        self._spool = spool
        self._settled = settled
        self._watch = watch

    def run(self, work: Work) -> None:
        """Write what MLflow lacks: first what was spooled, then what only the folder knows, then what nobody knows."""
        for steps in (self._spooled, self._kept_by_promptflow, self._interrupted):
            for number, step in steps():
                while work.is_full:
                    self._settle(work)
                work.offer(number, step)
            while not work.is_idle:
                self._settle(work)
        self._settled.finish()

    def _settle(self, work: Work) -> None:
        for written in work.finished(_WAIT):
            self._settled.note(written)
            self._watch(written)
        self._settled.flush_now_and_then()

    def _spooled(self) -> Iterator[tuple[int, Callable[[], Written]]]:
        after = -1
        while lines := self._spool.complete_lines(self.writer.batch.uid, after):
            for line in lines:
                if not self._settled.has(line):
                    yield line.line_number, self._settled.step(line)
            after = lines[-1].line_number

    def _kept_by_promptflow(self) -> Iterator[tuple[int, Callable[[], Written]]]:
        refused = self._spool.refused(self.writer.batch.uid)
        complete = self.writer.standing.complete
        for record in self.writer.source.lines(lambda number: number not in complete and number not in refused):
            yield record.line_number, partial(self.writer.write, record.line_number, record.start, record)

    def _interrupted(self) -> Iterator[tuple[int, Callable[[], Written]]]:
        standing = self.writer.standing
        end = self.writer.source.facts().end or time.time()
        opened = self._spool.unfinished(self.writer.batch.uid)
        opened |= {n: run.values.start_ms / 1000 for n, run in standing.incomplete.items() if not run.is_over}
        for number in sorted(opened.keys() - standing.complete.keys()):
            if not (known := standing.incomplete.get(number)) or not known.is_over:
                draft = self._spool.draft(self.writer.batch.uid, number)
                record = _interrupted(self.writer.batch, number, opened[number], end, draft)
                yield number, partial(self.writer.write, number, opened[number], record)


def _interrupted(batch: Batch, number: int, opened: float, end: float, draft: str | None) -> LineRecord:
    """Return the record of a line of which nothing is known but that it had started, and perhaps its inputs."""
    known = LineRecord.from_json(draft) if draft else LineRecord(batch.uid, number, FAILED, opened, opened)
    return replace(
        known,
        end=max(opened, end),
        run_name=batch.name,
        error="the batch ended before the line did",
        error_type=INTERRUPTED,
    )
