"""Shows how a batch stands while it runs: one line that changes on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from pf_mlflow.reports.tables import seconds
from pf_mlflow.running.monitor import Counts, RunWatch

__all__ = ["LiveRun", "told"]

_REFRESH = 0.25
"""Seconds between two looks on a terminal …"""
_LINES = 5.0
"""… and between two lines elsewhere."""


class LiveRun:
    """Tells of a batch on a console until the block is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watch: RunWatch | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="pf-mlflow-live", daemon=True)

    def __enter__(self) -> LiveRun:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def of(self, watch: RunWatch) -> None:
        """Tell of this batch from now on."""
        self._watch = watch

    def _tell(self) -> None:
        if self._console.is_terminal:
            self._tell_on_terminal()
        else:
            self._tell_in_lines()

    def _tell_on_terminal(self) -> None:
        spinner = Spinner("dots", text="running …")
        with Live(spinner, console=self._console, transient=True, refresh_per_second=8):
            while not self._over.wait(_REFRESH):
                if counts := self._watch and self._watch.counts():
                    spinner.update(text=told(counts))

    def _tell_in_lines(self) -> None:
        last = ""
        while not self._over.wait(_LINES):
            counts = self._watch and self._watch.counts()
            if counts and (line := told(counts)) != last:
                self._console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False)
                last = line


def told(counts: Counts) -> str:
    """Return how a batch stands, in one line."""
    parts = [f"{counts.done:,}/{counts.total:,} lines"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.done:
        parts.append(f"{counts.speed:,.1f} lines/s")
        parts += [f"{counts.tokens:,} tokens"] if counts.tokens else []
        parts.append(f"p50 {seconds(counts.p50)}, p90 {seconds(counts.p90)}")
        parts.append(f"{counts.delivered:,} in MLflow")
    parts.append(_end(counts))
    return " · ".join(part for part in parts if part)


def _end(counts: Counts) -> str:
    if counts.done == counts.total:
        return "finishing"
    if counts.is_stopping:
        return "stopping: waiting for the lines that run (Ctrl-C: at once)"
    left = counts.seconds_left
    return f"{timedelta(seconds=round(left))} left" if left is not None else ""
