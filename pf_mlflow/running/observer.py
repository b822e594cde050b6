"""Who looks on while a batch runs, and how it is asked to stop. Needs no promptflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pf_mlflow.running.model_choice import ModelChoice
from pf_mlflow.running.progress import Counts

__all__ = ["Observer", "StopRequest"]

log = logging.getLogger(__name__)


class Observer:
    """Gets the events of a run in their order, those of lines from any thread; this one but logs what is said."""

    def starting(self, model: ModelChoice, tracking_uri: str) -> None:
        """The batch is about to be handed to promptflow; `tracking_uri` is `""` if nothing is logged."""

    def running(self, counts: Callable[[], Counts | None]) -> None:
        """The batch is handed over; `counts` returns how it stands, `None` before its first line."""

    def batch_started(self, run_id: str, total: int) -> None:
        """So many lines of a batch are about to be executed."""

    def line_started(self, number: int, inputs: Mapping[str, Any]) -> None:
        """A line is about to be executed."""

    def line_given_up(self, number: int, error: Exception) -> None:
        """A line has failed though it may still run."""

    def line_ended(self, number: int, inputs: Mapping[str, Any], result: Any) -> None:
        """A line has its result, promptflow's `LineResult`, and the batch counts it next."""

    def line_done(self, number: int, completed: bool, seconds: float, tokens: int | None) -> None:
        """A line is over; `tokens` is `None` if they are not known."""

    def tell(self, sentence: str) -> None:
        """Something is worth knowing: here it goes to the log, as warnings do."""
        log.warning("%s", sentence)

    def warn(self, sentence: str) -> None:
        """Something is wrong that does not stop the batch."""
        log.warning("%s", sentence)


class StopRequest:
    """Whether a batch is to stop."""

    def __init__(self) -> None:
        self.stops = False
        """Take no more lines."""
        self.hurries = False
        """Do not even wait for those that run."""

    def interrupt(self) -> None:
        """Ask to stop; asked twice, to hurry. May be called by a signal handler."""
        self.stops, self.hurries = True, self.stops
