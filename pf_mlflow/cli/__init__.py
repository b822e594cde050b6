"""The command `pf-mlflow`: a thin skin that parses, calls the package and prints; a module for each command."""

from __future__ import annotations

import click

from pf_mlflow.__version__ import __version__
from pf_mlflow.cli.clean import clean
from pf_mlflow.cli.doctor import doctor
from pf_mlflow.cli.evaluate import evaluate
from pf_mlflow.cli.init import init
from pf_mlflow.cli.leaving import leave_at_once
from pf_mlflow.cli.output import begin
from pf_mlflow.cli.run import run
from pf_mlflow.cli.show import show
from pf_mlflow.cli.sync import sync
from pf_mlflow.cli.ui import ui

__all__ = ["command", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Everything a prompt flow did, line by line, in MLflow.

    Example: pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='${data.topic}'
    """
    begin()


for each in (clean, doctor, evaluate, init, run, show, sync, ui):
    main.add_command(each)


def command() -> None:
    """What `pf-mlflow` in a shell is: `main`, and its end at once."""
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            leave_at_once(end.code)
        raise
