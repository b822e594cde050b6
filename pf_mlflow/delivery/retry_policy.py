"""When to try again what MLflow did not take: each line after its own back-off, all after a pause while it is down."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from pf_mlflow.errors import TrackingDown

__all__ = ["Patience", "backoff", "keep_trying"]

T = TypeVar("T")

_FIRST = 0.2
_LONGEST = 10.0
"""Seconds between two tries; a `Retry-After` may ask for more."""


def backoff(tries: int, error: BaseException | None = None) -> float:
    """Return how many seconds to wait after so many failed tries: doubled each time, with jitter, up to 10.

    Full waits would let all lines of a batch come back in the same moment; a server's `Retry-After` is the least.
    """
    wait: float = min(_LONGEST, _FIRST * 2 ** min(tries - 1, 10)) * random.uniform(0.5, 1.5)
    return max(wait, (error.retry_after or 0.0) if isinstance(error, TrackingDown) else 0.0)


class Patience:
    """Who may try, and when. Times are `time.monotonic()`.

    Args:
        threads: How many lines are tried at once: when so many fail without a success between, MLflow is down.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._failed_in_a_row = 0
        self._tries: dict[int, int] = {}
        self._due: dict[int, float] = {}
        self._paused_until = 0.0

    @property
    def is_down(self) -> bool:
        """Whether MLflow seems to answer nobody."""
        return self._failed_in_a_row >= 2 * self._threads

    def failed(self, line_number: int, error: TrackingDown) -> None:
        """Remember that a line could not be written just now."""
        now = time.monotonic()
        self._failed_in_a_row += 1
        self._tries[line_number] = self._tries.get(line_number, 0) + 1
        self._due[line_number] = now + backoff(self._tries[line_number], error)
        if self.is_down:
            pause = backoff(self._failed_in_a_row // (2 * self._threads), error)
            self._paused_until = max(self._paused_until, now + pause)
        elif error.retry_after:  # who asks one line for patience means all of them
            self._paused_until = max(self._paused_until, now + error.retry_after)

    def succeeded(self, line_number: int) -> None:
        """Remember that a line was written."""
        self._failed_in_a_row = 0
        self._tries.pop(line_number, None)
        self._due.pop(line_number, None)

    def may_try(self, line_number: int, in_work: int) -> bool:
        """Tell whether a line may be tried now; while MLflow is down, one line at a time finds out."""
        now = time.monotonic()
        if now < self._paused_until or (self.is_down and in_work):
            return False
        return self._due.get(line_number, 0.0) <= now


def keep_trying(step: Callable[[], T], is_time_up: Callable[[], bool], on_failure: Callable[[TrackingDown], None]) -> T:
    """Do a step until it succeeds, MLflow refuses it, or time is up; then raise what it raised."""

    def told(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TrackingDown):
            on_failure(error)

    retrying = Retrying(
        retry=retry_if_exception_type(TrackingDown),
        wait=lambda state: backoff(state.attempt_number, state.outcome.exception() if state.outcome else None),
        stop=lambda state: is_time_up(),
        after=told,
        reraise=True,
    )
    return retrying(step)
