"""How a batch stands while it runs."""

from __future__ import annotations

import threading
import time
from array import array
from dataclasses import dataclass

from pf_mlflow.records.statistics import percentile

__all__ = ["Counts", "LineCounter"]


@dataclass(frozen=True)
class Counts:
    """How a batch stands. Durations in seconds, `None` while no line has completed."""

    total: int
    done: int
    failed: int
    delivered: int
    """Lines that MLflow has."""
    tokens: int
    elapsed: float
    """Seconds since its first line."""
    p50: float | None
    p90: float | None
    is_stopping: bool

    @property
    def speed(self) -> float:
        """Lines a second."""
        return self.done / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the lines which are left will take; `None` while nobody knows."""
        return (self.total - self.done) / self.speed if self.speed else None


class LineCounter:
    """Counts the lines of a batch that are over. Safe for threads."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._failed = self._tokens = 0
        self._durations = array("d")
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def add(self, completed: bool, seconds: float, tokens: int | None) -> None:
        """Count a line."""
        with self._lock:
            self._failed += not completed
            self._tokens += tokens or 0
            self._durations.append(seconds)

    def counts(self, delivered: int, is_stopping: bool) -> Counts:
        """Return how the batch stands, of which MLflow has so many lines."""
        with self._lock:
            durations = self._durations.tolist()
            failed, tokens = self._failed, self._tokens
        durations.sort()
        return Counts(
            self._total,
            len(durations),
            failed,
            min(delivered, len(durations)),
            tokens,
            time.monotonic() - self._started,
            percentile(durations, 50) if durations else None,
            percentile(durations, 90) if durations else None,
            is_stopping,
        )
