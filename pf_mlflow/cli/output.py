"""How every command speaks: results on stdout, trouble as one sentence on stderr."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pf_mlflow.errors import PfMlflowError, TrackingDown
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.batch import on_batch
from pf_mlflow.reports import tables
from pf_mlflow.settings import read_settings, working_folder
from pf_mlflow.settings.environment import loopback_unproxied
from pf_mlflow.tracking.links import batches_link

__all__ = [
    "begin",
    "busy",
    "err",
    "one_sentence",
    "out",
    "own_command",
    "print_json",
    "print_place",
    "print_summary",
    "stdout_kept",
    "warn",
]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_program = Path(sys.argv[0])


def begin() -> None:
    """Make sure of the folder that the command was typed in, of this machine's servers, and that all can be printed."""
    os.environ.update(loopback_unproxied(os.environ))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with one_sentence():
        _be_where_it_was_typed()


def _be_where_it_was_typed() -> None:
    global _program
    os.environ["PWD"] = working_folder()  # what `make -C` and other programs hand on is where they were started
    _program = Path.cwd() / sys.argv[0]


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
    if isinstance(error, TrackingDown) and " — " not in str(error):
        return f"{str(error).rstrip('.')} — see that it runs, and that MLFLOW_TRACKING_URI is right."
    if isinstance(error, PfMlflowError):
        return str(error)
    named = str(getattr(error, "filename", None) or "")
    if named and not named.startswith(str(read_settings().spool_dir)):
        return f"{named} cannot be used: {getattr(error, 'strerror', error)}."
    return f"The spool cannot be used: {error} — free its disk, or set PF_MLFLOW_SPOOL_DIR to another folder."


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Let what anybody prints, also libraries and their processes, go to stderr until the block is left."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def warn(sentence: str) -> None:
    """Tell of something that does not stop the command."""
    err.print(f"[yellow]Warning:[/yellow] {escape(sentence)}")


def busy(doing: str) -> AbstractContextManager[object]:
    """Show on a terminal that something takes a while."""
    return err.status(doing) if err.is_terminal else nullcontext()


def print_json(kind: str, data: Mapping[str, Any]) -> None:
    """Print a result for a program, with its schema in `docs/schemas/`: what no encoding and no colour can break."""
    is_unicode = "utf" in (sys.stdout.encoding or "").lower()
    sys.stdout.write(
        json.dumps({"schema": f"pf-mlflow/{kind}/v1", **data}, indent=2, ensure_ascii=not is_unicode) + "\n"
    )
    sys.stdout.flush()


def print_summary(summary: BatchSummary, name: str, status: str | None = None) -> None:
    """Print the name of a batch and its tables; `status`: of its parent run, where that is of interest."""
    out.print(f"[italic]Batch {escape(name)}[/italic]")
    for table in tables.summary_tables(summary, status):
        out.print(table)
    if summary.unpriced:
        out.print(f"No price is known of {escape(', '.join(summary.unpriced))}; PF_MLFLOW_PRICES takes your own.")


def print_place(name: str, tracking_uri: str, experiment: str, parent_run_id: str | None, link: str | None) -> None:
    """Print where a batch's runs are, and the address or the command to look at them."""
    run = f", parent run {parent_run_id}" if parent_run_id else ""
    out.print(f"\nMLflow:  {escape(tracking_uri)}, {escape(f'experiment {experiment!r}{run}')}")
    if parent_run_id:
        out.print(f"Look at: {escape(batches_link(link) if link else own_command(*on_batch('ui', name)))}")
    else:
        out.print(f"Next:    {escape(own_command(*on_batch('sync', name)))}")


def own_command(*words: str) -> str:
    """Return a command of ours as it can be pasted here: in an environment that is not active, with its folder."""
    found = shutil.which(_program.name)
    if _program.stem != "pf-mlflow" or (found and Path(found).absolute() == _program):
        return shlex.join(["pf-mlflow", *words])
    typed_in = Path(os.environ["PWD"]).resolve()
    shown = _program.relative_to(typed_in) if typed_in in _program.parents else _program
    return shlex.join([str(shown), *words])
