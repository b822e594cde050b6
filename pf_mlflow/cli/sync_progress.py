"""What `pf-mlflow sync` shows while it works."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from pf_mlflow.delivery.sync import SyncProgress

__all__ = ["Progress"]


class Progress(SyncProgress):
    """A bar for each batch on a terminal, nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def batch(self, name: str, lines: int) -> None:
        """Begin a bar."""
        self._task = self._bars.add_task(escape(name), total=lines or None)

    def waits(self, name: str) -> None:
        """Say so."""
        self._console.print(f"{escape(name)}: waiting for the process that delivers it …")

    def line(self) -> None:
        """Move the bar on."""
        self._bars.advance(self._task)
