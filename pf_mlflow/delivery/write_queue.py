"""Writes lines by several threads or many in one transaction, and again after a while what MLflow did not take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from pf_mlflow.delivery.retry_policy import Patience
from pf_mlflow.errors import TrackingDown, TrackingError
from pf_mlflow.projection.write_result import Writer, Written

__all__ = ["Work"]

Step = Callable[[], Written]
Outcomes = dict[int, Written | TrackingError]
"""What became of lines; those that are not named were undone with others."""

_AHEAD = 4
"""Lines in a thread's queue: it must not wait for the next one."""


class Work:
    """The lines that are being written or are to be.

    Args:
        threads: How many write at once.
        is_time_up: Tells whether a line that MLflow did not answer is given up.
        on_failure: Is told of each failure.
        together: How many lines a thread writes in one transaction …
        transaction: … which this is: an error that leaves it undoes them all.
    """

    def __init__(
        self,
        threads: int,
        is_time_up: Callable[[], bool],
        on_failure: Callable[[TrackingDown, Patience], None],
        together: int = 1,
        transaction: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.patience = Patience(threads)
        self._together = together
        self._transaction = transaction
        self._most = threads * (_AHEAD if together == 1 else 2)
        self._pool = ThreadPoolExecutor(threads)
        self._is_time_up = is_time_up
        self._on_failure = on_failure
        self._steps: dict[int, Step] = {}
        self._queue: dict[int, Step] = {}
        self._running: dict[Future[Outcomes], list[int]] = {}

    @classmethod
    def of(
        cls,
        writer: Writer,
        is_time_up: Callable[[], bool],
        on_failure: Callable[[TrackingDown, Patience], None],
    ) -> Work:
        """Return the work of a writer, done as its store takes it best."""
        store = writer.projection
        return cls(store.threads, is_time_up, on_failure, store.lines_together, writer.together)

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
        return 2 * self._most * self._together - len(self._steps)

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
            numbers = self._running.pop(future)
            outcomes = future.result()
            for number in numbers:
                yield from self._settled(number, outcomes.get(number))
        self._start()

    def _settled(self, number: int, outcome: Written | TrackingError | None) -> Iterator[Written]:
        if isinstance(outcome, TrackingDown):
            self._again(number, outcome)
        elif isinstance(outcome, TrackingError):
            raise outcome
        elif outcome is None:  # another line of its transaction failed
            self._queue[number] = self._steps[number]
        else:
            self.patience.succeeded(number)
            del self._steps[number]
            yield outcome

    def _start(self) -> None:
        ready = [number for number in self._queue if self.patience.may_try(number, in_work=len(self._running))]
        while ready and len(self._running) < self._most:
            together = 1 if self.patience.is_down else self._together
            numbers, ready = ready[:together], ready[together:]
            if not self.patience.may_try(numbers[0], in_work=len(self._running)):
                return
            steps = {number: self._queue.pop(number) for number in numbers}
            self._running[self._pool.submit(self._write, steps)] = numbers

    def _write(self, steps: Mapping[int, Step]) -> Outcomes:
        """Write lines in one transaction; where one fails, it alone is told of, and the others go again."""
        done: Outcomes = {}
        blamed: Iterable[int] = steps  # what fails outside of a line fails all
        try:
            with self._transaction():
                for number, step in steps.items():
                    blamed = [number]
                    done[number] = step()
                blamed = steps
        except TrackingError as error:
            return dict.fromkeys(blamed, error)
        return done

    def _again(self, number: int, error: TrackingDown) -> None:
        if self._is_time_up():
            raise error
        self.patience.failed(number, error)
        self._on_failure(error, self.patience)
        self._queue[number] = self._steps[number]
