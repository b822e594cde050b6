"""Writes lines by several threads or many in one transaction, and again after a while what MLflow did not take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from pf_mlflow.delivery.retry_policy import CircuitBreaker
from pf_mlflow.errors import TrackingDown, TrackingError
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.projection.writer import Writer
from pf_mlflow.records.line import LineRecord

if TYPE_CHECKING:  # which imports mlflow
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["QueuedLine", "WriteQueue"]

Outcomes = dict[int, LineWritten | TrackingError]
"""What became of lines, by number; those that are not named were undone with others."""

_PREFETCH = 4
"""Lines in a thread's queue: it must not wait for the next one."""


@dataclass(frozen=True)
class QueuedLine:
    """A line that is to be written."""

    line_number: int
    opened: float
    """Unix seconds."""
    record: LineRecord | None = None
    """`None` while the line goes on."""
    seq: int | None = None
    """The place of its record in the spool, `None` if it has none there."""

    @property
    def is_spooled(self) -> bool:
        """Whether the spool knows of it what is known here."""
        return self.seq is not None or self.record is None


class WriteQueue:
    """The lines that are being written or are to be, each by one thread at a time.

    Args:
        write: Writes a line.
        breaker: Knows whether the store answers, and when to give up.
        threads: How many write at once.
        batch_size: How many lines a thread writes in one transaction.
        transaction: Opens it; an error that leaves it undoes all of its lines.
    """

    def __init__(
        self,
        write: Callable[[QueuedLine, StoreWriter | None], LineWritten],
        breaker: CircuitBreaker,
        threads: int,
        batch_size: int = 1,
        transaction: Callable[[], AbstractContextManager[StoreWriter | None]] = nullcontext,
    ) -> None:
        self._write = write
        self._breaker = breaker
        self._threads = threads
        self._batch_size = batch_size
        self._transaction = transaction
        self._most = threads * (_PREFETCH if batch_size == 1 else 2)
        self._pool = ThreadPoolExecutor(threads)
        self._waiting: dict[int, QueuedLine] = {}
        self._not_before: dict[int, float] = {}
        self._in_flight: dict[int, QueuedLine] = {}
        self._futures: dict[Future[Outcomes], list[QueuedLine]] = {}

    @classmethod
    def of(cls, writer: Writer, breaker: CircuitBreaker) -> WriteQueue:
        """Return the queue of a writer, emptied as its store takes it best."""

        def write(line: QueuedLine, store: StoreWriter | None) -> LineWritten:
            return writer.write(line.line_number, line.opened, line.record, store)

        return cls(write, breaker, writer.store.threads, writer.store.lines_per_transaction, writer.transaction)

    def __enter__(self) -> WriteQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not len(self)

    @property
    def room(self) -> int:
        """How many lines more it takes well."""
        return max(0, 2 * self._most * self._batch_size - len(self))

    def offer(self, line: QueuedLine) -> None:
        """Have a line written as it is known now, whatever was known when it was offered before."""
        if self._in_flight.get(line.line_number) != line:
            self._waiting[line.line_number] = line

    def finished(self, seconds: float) -> Iterator[tuple[QueuedLine, LineWritten]]:
        """Yield the lines that have been written, waiting so long for the first.

        Raises:
            TrackingRefused: a line was refused in a way that holds for all.
            TrackingDown: a line could not be written, and the deadline has passed.
        """
        self._start()
        if not self._futures:
            time.sleep(seconds)
        done, _ = wait(self._futures, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            lines, outcomes = self._futures.pop(future), future.result()
            waits: dict[TrackingDown, float] = {}
            for line in lines:
                del self._in_flight[line.line_number]
                outcome = outcomes.get(line.line_number)
                if isinstance(outcome, LineWritten):
                    self._breaker.succeeded()
                    yield line, outcome
                else:
                    self._again(line, outcome, waits)
        self._start()

    def _again(self, line: QueuedLine, error: TrackingError | None, waits: dict[TrackingDown, float]) -> None:
        """Take a line up again that was not written; without an error, another one of its transaction failed.

        `waits`: how long after an error, which counts once for all the lines of its transaction.
        """
        if isinstance(error, TrackingDown):
            if error not in waits:
                waits[error] = self._breaker.failed(error, self._threads)
            self._not_before[line.line_number] = time.monotonic() + waits[error]
        elif error:
            raise error
        self._waiting.setdefault(line.line_number, line)

    def _start(self) -> None:
        now = time.monotonic()
        ready = [n for n in self._waiting if n not in self._in_flight and self._not_before.get(n, 0.0) <= now]
        while ready and len(self._futures) < self._most and self._breaker.allows(len(self._futures)):
            size = 1 if self._breaker.is_open else self._batch_size
            lines = [self._waiting.pop(number) for number in ready[:size]]
            del ready[:size]
            for line in lines:
                self._not_before.pop(line.line_number, None)
                self._in_flight[line.line_number] = line
            self._futures[self._pool.submit(self._write_together, lines)] = lines

    def _write_together(self, lines: list[QueuedLine]) -> Outcomes:
        """Write lines in one transaction; where one fails, it alone is blamed, and the others go again."""
        done: Outcomes = {}
        blamed: Iterable[QueuedLine] = lines  # what fails outside of a line fails all
        try:
            with self._transaction() as store:
                for line in lines:
                    blamed = [line]
                    done[line.line_number] = self._write(line, store)
                blamed = lines
        except TrackingError as error:
            return {line.line_number: error for line in blamed}
        return done
