"""The command `pf-mlflow`: a thin skin that parses, calls the package and prints; a module for each command."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any

import click

from pf_mlflow.__version__ import __version__
from pf_mlflow.cli.interrupts import heard_as_ctrl_c
from pf_mlflow.cli.leaving import leave_at_once
from pf_mlflow.garbage import collect_rarely

__all__ = ["command", "main"]


class _Commands(UserDict[str, Any]):
    """The commands by their names; the module of one is imported when that one is asked for."""

    def __getitem__(self, name: str) -> Any:
        """Return a command."""
        return getattr(import_module(self.data[name]), name)


_NAMES = ("clean", "doctor", "evaluate", "init", "run", "show", "sync", "ui")


@click.group(
    commands=_Commands({name: f"{__name__}.{name}" for name in _NAMES}),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def main() -> None:
    """Everything a prompt flow did, line by line, in MLflow.

    Example: pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='${data.topic}'
    """
    from pf_mlflow.cli.output import begin

    begin()


def command() -> None:
    """What `pf-mlflow` in a shell is: `main`, begun without looking for garbage, and its end at once."""
    collect_rarely()
    heard_as_ctrl_c()
    try:
        main(prog_name="pf-mlflow")
    except SystemExit as end:
        if isinstance(end.code, int):
            leave_at_once(end.code)
        raise
