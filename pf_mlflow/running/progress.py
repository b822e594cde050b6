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
    """How a batch stands. Latencies in seconds, of completed lines; `None` while none has completed."""

    total: int
    done: int
    failed: int
    delivered: int | None
    """Lines that MLflow has; `None` if nothing is logged."""
    tokens: int
    elapsed: float
    """Seconds since its first line."""
    p50: float | None
    p90: float | None
    is_stopping: bool
    delivery_left: float | None = None
    """Seconds that MLflow will take for the rest of a batch whose lines are over; `None` while nobody knows."""

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
        self._done = self._failed = self._tokens = 0
        self._latencies = array("d")
        self._told: dict[int, float] = {}
        self._started = time.monotonic()
        self._delivery: tuple[float, int] | None = None
        self._lock = threading.Lock()

    def took(self, number: int, latency: float | None) -> None:
        """Note how long a line took as MLflow will show it, before it is counted."""
        if latency is not None:
            with self._lock:
                self._told[number] = latency

    def add(self, number: int, completed: bool, seconds: float, tokens: int | None) -> None:
        """Count a line, which took so many seconds if nothing else was noted."""
        with self._lock:
            self._done += 1
            self._failed += not completed
            self._tokens += tokens or 0
            latency = self._told.pop(number, seconds)
            if completed:
                self._latencies.append(latency)

    def counts(self, delivered: int | None, is_stopping: bool) -> Counts:
        """Return how the batch stands, of which MLflow has so many lines."""
        now = time.monotonic()
        with self._lock:
            latencies = self._latencies.tolist()
            done, failed, tokens = self._done, self._failed, self._tokens
        latencies.sort()
        delivered = None if delivered is None else min(delivered, done)
        return Counts(
            self._total,
            done,
            failed,
            delivered,
            tokens,
            now - self._started,
            percentile(latencies, 50) if latencies else None,
            percentile(latencies, 90) if latencies else None,
            is_stopping,
            self._delivery_left(now, delivered) if delivered is not None and done == self._total else None,
        )

    def _delivery_left(self, now: float, delivered: int) -> float | None:
        """Return it by the pace since the lines were over, as soon as there is one."""
        if self._delivery is None:
            self._delivery = now, delivered
        since, had = self._delivery
        return (self._total - delivered) * (now - since) / (delivered - had) if delivered > had else None
