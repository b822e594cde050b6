"""Follows a batch while it runs: counts its lines, shows them as RUNNING, and has what they leave delivered."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any

from pf_mlflow.delivery.prestart import PrestartedDelivery
from pf_mlflow.errors import BadInput, TrackingRefused
from pf_mlflow.records.batch import command_on
from pf_mlflow.records.latency import latency
from pf_mlflow.running.hopeless import Hopeless
from pf_mlflow.running.observer import Observer, StopRequest
from pf_mlflow.running.progress import Counts, LineCounter
from pf_mlflow.sources.live import api as live_source
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.store import Spool

__all__ = ["Monitor"]


class Monitor(Observer):
    """Follows one batch and hands its events on.

    Args:
        observer: Whoever else looks on.
        spool: Where its records wait; `None` if nothing is logged.
        delivery: The delivery process that waits for it; `None` if nothing is logged.
    """

    def __init__(self, observer: Observer, spool: Spool | None, delivery: PrestartedDelivery | None) -> None:
        self.stop = StopRequest()
        self.check_models: Callable[[], None] = lambda: None
        """Raises `BadInput` for a model that is not there."""
        self.refusal: TrackingRefused | BadInput | None = None
        """Why no line was executed: MLflow said no for good, or there is no such model."""
        self.failure: str | None = None
        """Why promptflow did not finish it, though lines were executed."""
        self.hopeless: str | None = None
        """Why no more lines were taken: the model refused all of the first ones."""
        self.gave_up = False
        """Whether a line was given up: its thread may still run."""
        self.run_id = ""
        """The batch's name, once its lines are about to start."""
        self._observer = observer
        self._spool = spool
        self._delivery = delivery
        self._asked = False
        self._hopeless = Hopeless()
        self._batch_uid = ""
        self._counter: LineCounter | None = None

    def wait_for_mlflow(self) -> None:
        """Wait for what MLflow says to the batch, once.

        Raises:
            TrackingRefused: it said no for good.
        """
        if self._asked or self._delivery is None:
            return
        self._asked = True
        try:
            warning = self._delivery.warning()
        except TrackingRefused as error:
            self.refusal = error
            raise
        if warning:
            self._observer.warn(f"{warning} The batch runs all the same; its records wait in the spool.")

    def wait_for_models(self) -> None:
        """Wait for what the servers of the flow's models say.

        Raises:
            BadInput: one has no such model, or is not there.
        """
        try:
            self.check_models()
        except BadInput as error:
            self.refusal = error
            raise

    def batch_started(self, run_id: str, total: int) -> None:
        """Have the batch delivered, if MLflow lets it and its models are there.

        Raises:
            TrackingRefused: it does not.
            BadInput: they are not.
        """
        self.run_id = run_id
        self.wait_for_mlflow()
        self.wait_for_models()
        self._counter = LineCounter(total)
        batch = live_source.batch_started(run_id) if self._spool else None
        if batch and self._spool:
            self._batch_uid = batch.uid
            self._deliver(self._spool)
        self._observer.batch_started(run_id, total)

    def _deliver(self, spool: Spool) -> None:
        try:
            if self._delivery and self._delivery.is_waiting and spool.claim_launch(self._batch_uid, time.monotonic()):
                self._delivery.deliver(self._batch_uid)
            else:
                deliver_in_background(spool, self._batch_uid)
        except (OSError, sqlite3.Error) as error:  # the batch runs all the same
            remedy = f"`{command_on('sync', self.run_id)}` brings the batch into MLflow afterwards"
            self._observer.warn(f"The spool {spool.folder} cannot be used ({error}); {remedy}.")

    def line_started(self, number: int, inputs: Mapping[str, Any]) -> None:
        """Show the line as RUNNING."""
        if self._batch_uid:
            live_source.line_started(self.run_id, number, inputs)
        self._observer.line_started(number, inputs)

    def line_given_up(self, number: int, error: Exception) -> None:
        """Note that a thread may be left."""
        self.gave_up = True
        self._observer.line_given_up(number, error)

    def line_ended(self, number: int, inputs: Mapping[str, Any], result: Any) -> None:
        """Show the line as it ended."""
        record = live_source.line_ended(self.run_id, number, inputs, result) if self._batch_uid else None
        if record and self._counter:
            self._counter.took(number, latency(record))
        if (why := self._hopeless.noticed(result)) and not self.stop.stops:
            self.hopeless, self.stop.stops = why, True
        self._observer.line_ended(number, inputs, result)

    def line_done(self, number: int, completed: bool, seconds: float, tokens: int | None) -> None:
        """Count the line."""
        if self._counter:
            self._counter.add(number, completed, seconds, tokens)
        self._observer.line_done(number, completed, seconds, tokens)

    def counts(self) -> Counts | None:
        """Return how the batch stands, `None` before its first line."""
        if self._counter is None:
            return None
        delivered = self._spool.delivered(self._batch_uid) if self._spool and self._batch_uid else None
        return self._counter.counts(delivered, self.stop.stops)
