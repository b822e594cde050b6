"""Hands the lines of a batch out to workers and takes one result of each, whatever becomes of its worker."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from promptflow.executor._result import LineResult

__all__ = ["Line", "Lines"]


@dataclass(eq=False)
class Line:
    """A line that waits or is being executed."""

    number: int
    inputs: Mapping[str, Any]
    taken: float = 0.0
    """`time.monotonic()` when a worker took it."""

    @property
    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self.taken


class Lines:
    """The lines of a batch. Safe for threads."""

    def __init__(self, inputs: Iterable[Mapping[str, Any]]) -> None:
        self._waiting = deque(Line(one["line_number"], one) for one in inputs)
        self._running: dict[int, Line] = {}
        self._results: dict[int, LineResult] = {}
        self._lock = threading.Lock()
        self.total = len(self._waiting)

    def take(self) -> Line | None:
        """Return the next line to be executed, `None` if there is none."""
        with self._lock:
            if not self._waiting:
                return None
            line = self._waiting.popleft()
            line.taken = time.monotonic()
            self._running[line.number] = line
            return line

    def finish(self, line: Line, result: LineResult) -> bool:
        """Keep the result of a line; `False` if the line was given up before, and the result comes too late."""
        with self._lock:
            if line.number not in self._running:
                return False
            del self._running[line.number]
            self._results[line.number] = result
            return True

    def give_up(self, line: Line) -> bool:
        """Take a line from its worker; `False` if it has its result already. Its result is to be put in then."""
        with self._lock:
            return self._running.pop(line.number, None) is not None

    def put_in(self, line: Line, result: LineResult) -> None:
        """Keep the result of a line that was given up."""
        with self._lock:
            self._results[line.number] = result

    def stop(self) -> None:
        """Hand out no more lines."""
        with self._lock:
            self._waiting.clear()

    def is_running(self, number: int) -> bool:
        """Tell whether a line is being executed, and was not given up."""
        return number in self._running

    def running_for(self, seconds: float) -> list[Line]:
        """Return the lines that have been running longer."""
        with self._lock:
            return [line for line in self._running.values() if line.seconds > seconds]

    @property
    def done(self) -> int:
        """How many lines are over."""
        return len(self._results)

    @property
    def are_over(self) -> bool:
        """Whether nothing waits and nothing runs."""
        with self._lock:
            return not self._waiting and not self._running

    def results(self) -> list[LineResult]:
        """Return the results by line number."""
        with self._lock:
            return [self._results[number] for number in sorted(self._results)]
