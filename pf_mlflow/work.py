"""Writes lines several at a time, each by one thread at a time, and again after a while what MLflow did not take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

from pf_mlflow.batch_writer import Written
from pf_mlflow.errors import TrackingDown
from pf_mlflow.patience import Patience

__all__ = ["Work"]

Step = Callable[[], Written]

_AHEAD = 4
"""Lines in a thread's queue: it must not wait for the next one."""


class Work:
    """The lines that are being written or are to be.

    Args:
        threads: How many lines are written at once.
        is_time_up: Tells whether a line that MLflow did not answer is given up.
        on_failure: Is told of each failure.
    """

    def __init__(
        self, threads: int, is_time_up: Callable[[], bool], on_failure: Callable[[TrackingDown, Patience], None]
    ) -> None:
        self.patience = Patience(threads)
        self._most = threads * _AHEAD
        self._pool = ThreadPoolExecutor(threads)
        self._is_time_up = is_time_up
        self._on_failure = on_failure
        self._steps: dict[int, Step] = {}
        self._queue: dict[int, Step] = {}
        self._running: dict[Future[Written], int] = {}

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self._steps

    @property
    def is_full(self) -> bool:
        """Whether whoever has more to offer should wait."""
        return self.room <= 0

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def room(self) -> int:
        """How many lines more it takes well."""
        return 2 * self._most - len(self._steps)

    def offer(self, line_number: int, step: Step) -> None:
        """Have a line written, unless it is being written already."""
        if line_number not in self._steps:
            self._steps[line_number] = self._queue[line_number] = step

    def finished(self, seconds: float) -> Iterator[Written]:
        """Yield the lines that have been written, waiting so long for the first.

        Raises:
            TrackingRefused: a line was refused in a way that holds for all.
            TrackingDown: a line could not be written, and time is up.
        """
        self._start()
        if not self._running:
            time.sleep(seconds)
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            number = self._running.pop(future)
            try:
                written = future.result()
            except TrackingDown as error:
                self._again(number, error)
                continue
            self.patience.succeeded(number)
            del self._steps[number]
            yield written
        self._start()

    def _start(self) -> None:
        for number in list(self._queue):
            if len(self._running) >= self._most:
                return
            if self.patience.may_try(number, in_work=len(self._running)):
                self._running[self._pool.submit(self._queue.pop(number))] = number

    def _again(self, number: int, error: TrackingDown) -> None:
        if self._is_time_up():
            raise error
        self.patience.failed(number, error)
        self._on_failure(error, self.patience)
        self._queue[number] = self._steps[number]
