"""How every command speaks: results on stdout, trouble as one sentence on stderr."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pf_mlflow import tables
from pf_mlflow.errors import PfMlflowError
from pf_mlflow.summary import BatchSummary

__all__ = ["err", "one_sentence", "out", "print_place", "print_summary", "warn"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def one_sentence(interrupted: str = "Interrupted.") -> Iterator[None]:
    """Turn trouble into one sentence and exit code 1, Ctrl-C into another and 130."""
    try:
        yield
    except (PfMlflowError, OSError, sqlite3.Error) as error:
        err.print(f"[red]Error:[/red] {escape(_sentence(error))}")
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        err.print(escape(interrupted))
        raise SystemExit(130) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, PfMlflowError):
        return str(error)
    return f"The spool cannot be used: {error} — free its disk, or set PF_MLFLOW_SPOOL_DIR to another folder."


def warn(sentence: str) -> None:
    """Tell of something that does not stop the command."""
    err.print(f"[yellow]Warning:[/yellow] {escape(sentence)}")


def print_summary(summary: BatchSummary, name: str) -> None:
    """Print the tables of a batch: totals, slowest lines, failed lines."""
    out.print(tables.totals(summary, f"Batch {name}"))
    if summary.slowest:
        out.print(tables.slowest(summary))
    if summary.failed:
        out.print(tables.failures(summary))


def print_place(tracking_uri: str, experiment: str, parent_run_id: str | None) -> None:
    """Print where a batch's runs are and how to look at them."""
    out.print(f"\nMLflow:  {escape(tracking_uri)}, {escape(f'experiment {experiment!r}, parent run {parent_run_id}')}")
    out.print(f"Look at: {escape(_ui_command(tracking_uri))}")


def _ui_command(uri: str) -> str:
    makefile = Path("Makefile")
    if uri == f"sqlite:///{(Path.cwd() / 'mlflow.db').as_posix()}" and makefile.is_file():
        if "mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlflow.db" in makefile.read_text("utf-8", "replace"):
            return "make ui"
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
