"""Who looks on while a batch runs, and may stop it. Needs no promptflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LineDone", "Watch"]


@dataclass(frozen=True)
class LineDone:
    """A line that is over: seconds, and tokens if they are known."""

    number: int
    completed: bool
    duration: float
    tokens: int | None


class Watch:
    """Is told what happens, by any thread, and says when to stop; this one does nothing with it."""

    def __init__(self) -> None:
        self.stops = False
        """Take no more lines."""
        self.hurries = False
        """Do not even wait for those that run."""

    def interrupt(self) -> None:
        """Ask to stop; asked twice, to hurry. May be called by a signal handler."""
        self.stops, self.hurries = True, self.stops

    def batch_started(self, run_id: str, total: int) -> None:
        """So many lines of a batch are about to be executed."""

    def line_started(self, run_id: str, number: int, inputs: Mapping[str, Any]) -> None:
        """A line of a batch is about to be executed."""

    def line_given_up(self, run_id: str, number: int, error: Exception) -> None:
        """A line has failed though it may still run."""

    def line_done(self, done: LineDone) -> None:
        """A line is over."""
