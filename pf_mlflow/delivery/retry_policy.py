"""When to try again what MLflow did not take, and when to give up."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pf_mlflow.errors import TrackingDown

__all__ = ["CircuitBreaker", "Deadline", "backoff"]

T = TypeVar("T")

_FIRST = 0.2
"""Seconds before the second try."""
_LONGEST = 10.0
"""Seconds between two tries at most, unless a `Retry-After` asks for more."""


def backoff(tries: int, error: BaseException | None = None) -> float:
    """Return how many seconds to wait after so many failed tries: doubled each time, with jitter, up to 10.

    Full waits would let all lines of a batch come back in the same moment; a server's `Retry-After` is the least.
    """
    wait: float = min(_LONGEST, _FIRST * 2 ** min(tries - 1, 10)) * random.uniform(0.5, 1.5)
    return max(wait, (error.retry_after or 0.0) if isinstance(error, TrackingDown) else 0.0)


class Deadline:
    """Until when MLflow is tried again.

    Args:
        seconds: How long after a moment.
        since: Returns that moment by `time.monotonic()`, `None` while it lies ahead; by default that of the first
            failure without a success after it.
    """

    def __init__(self, seconds: float, since: Callable[[], float | None] | None = None) -> None:
        self._seconds = seconds
        self._since = since

    def has_passed(self, failing_since: float | None = None) -> bool:
        """Tell whether it is over."""
        since = self._since() if self._since else failing_since
        return since is not None and time.monotonic() - since > self._seconds


class CircuitBreaker:
    """Keeps requests from a store that answers nobody: one at a time finds out, after ever longer pauses.

    Args:
        deadline: When to give up.
        on_failure: Called with each failure.
        on_recovery: Called when a store that was down answers again.
    """

    def __init__(
        self,
        deadline: Deadline,
        on_failure: Callable[[TrackingDown], None] = lambda error: None,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        self.deadline = deadline
        self._on_failure = on_failure
        self._on_recovery = on_recovery
        self._rounds = 0.0
        """How often all who ask at once have failed since the last success."""
        self._failing_since: float | None = None
        self._paused_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store seems to answer nobody."""
        return self._rounds >= 2

    def allows(self, in_flight: int) -> bool:
        """Tell whether a request may be sent now, while so many others are under way."""
        return time.monotonic() >= self._paused_until and not (self.is_open and in_flight)

    def failed(self, error: TrackingDown, at_once: int = 1) -> float:
        """Note a failure of one of those who ask at once, and return how many seconds it should wait.

        Raises:
            TrackingDown: the deadline has passed.
        """
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if self.deadline.has_passed(self._failing_since):
            raise error
        self._rounds += 1 if self.is_open else 1 / at_once
        wait = backoff(math.ceil(self._rounds), error)
        if self.is_open or error.retry_after:  # who asks one line for patience means all of them
            self._paused_until = max(self._paused_until, now + wait)
        self._on_failure(error)
        return wait

    def succeeded(self) -> None:
        """Note that the store has answered."""
        was_open = self.is_open
        self._rounds, self._failing_since = 0.0, None
        if was_open:
            self._on_recovery()

    def call(self, step: Callable[[], T]) -> T:
        """Do a step until it succeeds, MLflow refuses it, or the deadline has passed; then raise what it raised."""
        while True:
            try:
                result = step()
            except TrackingDown as error:
                time.sleep(self.failed(error))
            else:
                self.succeeded()
                return result
