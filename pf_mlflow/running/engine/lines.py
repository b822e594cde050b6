"""Hands the lines of a batch out to workers and keeps exactly one result of each, whatever becomes of its worker."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from promptflow.executor._result import LineResult

__all__ = ["Line", "Lines", "TooLate", "as_exception"]


class TooLate(Exception):
    """A line had its result already: whoever worked at it has lost it."""


@dataclass(eq=False)
class Line:
    """A line that waits or is being executed."""

    number: int
    inputs: Mapping[str, Any]
    taken: float = 0.0
    """`time.monotonic()` when a worker took it."""
    result: LineResult | None = None
    """What its worker made of it."""

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
        self._taken = 0
        self.total = len(self._waiting)

    def take(self) -> Line | None:
        """Return the next line to be executed, `None` if there is none."""
        with self._lock:
            if not self._waiting:
                return None
            line = self._waiting.popleft()
            line.taken = time.monotonic()
            self._running[line.number] = line
            self._taken += 1
            return line

    @contextmanager
    def one_result(self, line: Line, failed: Callable[[Line, Exception], LineResult]) -> Iterator[None]:
        """Keep the result that the block sets, or, whatever it raises, the one that `failed` makes of it.

        Raises:
            TooLate: the line has a result already, which stays.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # noqa: BLE001 - it is the line's result
            mute = [one for one in _chain(raised) if _text_of(one) is None]
            error = as_exception(mute[-1]) if mute else raised
        except BaseException as raised:  # noqa: BLE001 - `sys.exit()` in a node must not end the worker
            error = as_exception(raised)
        with self._lock:
            if self._running.pop(line.number, None) is None:
                raise TooLate
        result = line.result if error is None else failed(line, error)
        assert result
        with self._lock:
            self._results[line.number] = result

    def stop(self) -> None:
        """Hand out no more lines."""
        with self._lock:
            self._waiting.clear()

    def inputs(self, number: int) -> Mapping[str, Any] | None:
        """Return the inputs of a line that is being executed and has no result yet, `None` of another."""
        line = self._running.get(number)
        return line.inputs if line else None

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
        """Whether nothing waits and all that were handed out have their results."""
        with self._lock:
            return not self._waiting and len(self._results) == self._taken

    def result(self, line: Line) -> LineResult:
        """Return the result of a line that has one."""
        return self._results[line.number]

    def results(self) -> list[LineResult]:
        """Return the results by line number."""
        with self._lock:
            return [self._results[number] for number in sorted(self._results)]


def as_exception(raised: BaseException) -> Exception:
    """Return what may be any line's error, under the name of what was raised: promptflow keeps type and message."""
    name, text = type(raised).__name__, _text_of(raised)
    told = f"left by {name}: {text}" if text is not None else f"{name}, whose text cannot be read"
    return type(name, (Exception,), {})(told)  # type: ignore[no-any-return]


def _chain(raised: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it came from, of all of which promptflow keeps the text."""
    seen: set[int] = set()
    one: BaseException | None = raised
    while one and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _text_of(raised: BaseException) -> str | None:
    """Return an exception's message, `None` where its class fails to make one."""
    try:
        return str(raised)
    except Exception:  # noqa: BLE001 - a user's `__str__` may raise anything
        return None
