"""Looks on while a batch runs: counts its lines, shows them as RUNNING, and has what they leave delivered."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pf_mlflow.delivery.prestart import DeliveryAhead
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.records.statistics import percentile
from pf_mlflow.running.engine.watch import LineDone, Watch
from pf_mlflow.sources.live import api as live_source
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.store import Spool

__all__ = ["Counts", "RunWatch"]


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


class RunWatch(Watch):
    """The watch of one batch.

    Args:
        spool: Where its records wait; `None` if nothing is logged.
        ahead: The delivery process that waits for it; `None` if nothing is logged.
        warn: Is told if MLflow cannot be reached now.
    """

    def __init__(self, spool: Spool | None, ahead: DeliveryAhead | None, warn: Callable[[str], None]) -> None:
        super().__init__()
        self.refusal: TrackingRefused | None = None
        """Why no line was executed: MLflow said no for good."""
        self.gave_up = False
        """Whether a line was given up: its thread may still run."""
        self.run_id = ""
        """The batch's name, once its lines are about to start."""
        self._spool = spool
        self._ahead = ahead
        self._warn = warn
        self._asked = False
        self._batch_uid = ""
        self._total = self._failed = self._tokens = 0
        self._durations = array("d")
        self._started = 0.0
        self._lock = threading.Lock()

    def hear_mlflow(self) -> None:
        """Wait for what MLflow says to the batch, once.

        Raises:
            TrackingRefused: it said no for good.
        """
        if self._asked or self._ahead is None:
            return
        self._asked = True
        try:
            warning = self._ahead.warning()
        except TrackingRefused as error:
            self.refusal = error
            raise
        if warning:
            self._warn(f"{warning} The batch runs all the same; its records wait in the spool.")

    def batch_started(self, run_id: str, total: int) -> None:
        """Have the batch delivered, if MLflow lets it.

        Raises:
            TrackingRefused: it does not.
        """
        self.run_id = run_id
        self.hear_mlflow()
        self._started, self._total = time.monotonic(), total
        batch = live_source.batch_started(run_id) if self._spool else None
        if batch and self._spool:
            self._batch_uid = batch.uid
            self._deliver(self._spool)

    def _deliver(self, spool: Spool) -> None:
        if self._ahead and self._ahead.waits and spool.claim_launch(self._batch_uid, time.monotonic()):
            self._ahead.deliver(self._batch_uid)
        else:
            deliver_in_background(spool, self._batch_uid)

    def line_started(self, run_id: str, number: int, inputs: Mapping[str, Any]) -> None:
        """Show the line as RUNNING."""
        if self._batch_uid:
            live_source.line_started(run_id, number, inputs)

    def line_given_up(self, run_id: str, number: int, error: Exception) -> None:
        """Show the line as failed."""
        self.gave_up = True
        if self._batch_uid:
            live_source.line_given_up(run_id, number, error)

    def line_done(self, done: LineDone) -> None:
        """Count the line."""
        with self._lock:
            self._failed += not done.completed
            self._tokens += done.tokens or 0
            self._durations.append(done.duration)

    def counts(self) -> Counts | None:
        """Return how the batch stands, `None` before its first line."""
        if not self._started:
            return None
        with self._lock:
            durations = self._durations.tolist()
            failed, tokens = self._failed, self._tokens
        durations.sort()
        waiting = self._spool.waiting(self._batch_uid, complete=True) if self._spool and self._batch_uid else 0
        return Counts(
            self._total,
            len(durations),
            failed,
            max(0, len(durations) - waiting) if self._batch_uid else 0,
            tokens,
            time.monotonic() - self._started,
            percentile(durations, 50) if durations else None,
            percentile(durations, 90) if durations else None,
            self.stops,
        )
