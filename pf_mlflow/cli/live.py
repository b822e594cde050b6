"""Shows how a batch stands while it runs: one line that changes on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner

from pf_mlflow.cli.output import err, out, warn
from pf_mlflow.reports.tables import seconds
from pf_mlflow.running.model_choice import ModelChoice
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.progress import Counts

__all__ = ["ConsoleObserver", "progress_line"]

_REFRESH = 0.25
"""Seconds between two looks on a terminal."""
_LINES = 5.0
"""Seconds between two lines elsewhere."""


class ConsoleObserver(Observer):
    """Shows a run until the block is left; of several runs in it, the last.

    Args:
        quiet: Whether stdout is kept for the result.
    """

    def __init__(self, quiet: bool) -> None:
        self._print = err.print if quiet else out.print
        self._counts: Callable[[], Counts | None] = lambda: None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, name="pf-mlflow-live", daemon=True)

    def __enter__(self) -> ConsoleObserver:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def starting(self, model: ModelChoice, tracking_uri: str) -> None:
        """Print which model answers, and where the runs go."""
        if model.label:
            self._print(f"Language model: {escape(model.label)}")
        if model.offline:
            self._print("  (set OPENAI_API_KEY, or make a promptflow connection open_ai_connection, to use a real one)")
        self._print(f"Tracking to:    {escape(tracking_uri) or 'nowhere, PF_MLFLOW_ENABLED is false'}")

    def running(self, counts: Callable[[], Counts | None]) -> None:
        """Show how this batch stands from now on."""
        self._counts = counts

    def tell(self, sentence: str) -> None:
        """Print what is worth knowing."""
        self._print(escape(sentence))

    def warn(self, sentence: str) -> None:
        """Print a warning."""
        warn(sentence)

    def _show(self) -> None:
        if err.is_terminal:
            self._show_on_terminal()
        else:
            self._show_in_lines()

    def _show_on_terminal(self) -> None:
        spinner = Spinner("dots", text="running …")
        with Live(spinner, console=err, transient=True, refresh_per_second=8):
            while not self._over.wait(_REFRESH):
                if counts := self._counts():
                    spinner.update(text=progress_line(counts))

    def _show_in_lines(self) -> None:
        last = ""
        while not self._over.wait(_LINES):
            counts = self._counts()
            if counts and (line := progress_line(counts)) != last:
                err.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False)
                last = line


def progress_line(counts: Counts) -> str:
    """Return how a batch stands, in one line."""
    parts = [f"{counts.done:,}/{counts.total:,} lines"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.done:
        parts += [f"{counts.speed:,.1f} lines/s"] if counts.done < counts.total else []
        parts += [f"{counts.tokens:,} tokens"] if counts.tokens else []
        parts += [f"p50 {seconds(counts.p50)}, p90 {seconds(counts.p90)}"] if counts.p50 is not None else []
        parts += [f"{counts.delivered:,} in MLflow"] if counts.delivered is not None else []
    parts.append(_end(counts))
    return " · ".join(part for part in parts if part)


def _end(counts: Counts) -> str:
    if counts.done == counts.total:
        return _finishing(counts)
    if counts.is_stopping:
        return "stopping: waiting for the lines that run (Ctrl-C: at once)"
    left = counts.seconds_left
    return f"{_clock(left)} left" if left is not None else ""


def _finishing(counts: Counts) -> str:
    """Return what is left to do when all lines are over."""
    to_come = 0 if counts.delivered is None else counts.total - counts.delivered
    if not to_come:
        return "finishing"
    how_long = f", {_clock(counts.delivery_left)} left" if counts.delivery_left is not None else ""
    return f"{to_come:,} on their way{how_long}"


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
