"""What `pf-mlflow run` and `pf-mlflow evaluate` have in common: pairs, what they tell, exit codes."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from rich.markup import escape

from pf_mlflow.cli.live import LiveRun
from pf_mlflow.cli.output import err, out, own_command, print_place, print_summary, warn
from pf_mlflow.running.model_choice import Llm
from pf_mlflow.running.monitor import RunWatch
from pf_mlflow.running.outcome import Outcome
from pf_mlflow.running.request import Watcher

__all__ = ["Pairs", "Printer", "leave", "print_json", "print_outcome"]

SOME_FAILED = 3
INTERRUPTED = 130


class Pairs(click.ParamType[Any]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split a pair at its first `=`."""
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is no name=value pair", param, ctx)
        return name.strip(), text.strip().strip("'\"")


class Printer(Watcher):
    """Tells on the console what goes on."""

    def __init__(self, live: LiveRun, quiet: bool) -> None:
        self._live = live
        self._print = err.print if quiet else out.print

    def starting(self, llm: Llm, tracking_uri: str) -> None:
        """Tell which model answers, and where the runs go."""
        if llm.label:
            self._print(f"Language model: {escape(llm.label)}")
        if llm.offline:
            self._print("  (set OPENAI_API_KEY, or make a promptflow connection open_ai_connection, to use a real one)")
        self._print(f"Tracking to:    {escape(tracking_uri) or 'nowhere, PF_MLFLOW_ENABLED is false'}")

    def running(self, watch: RunWatch) -> None:
        """Show how the batch stands."""
        self._live.of(watch)

    def warn(self, sentence: str) -> None:
        """Tell of trouble."""
        warn(sentence)


def print_outcome(outcome: Outcome) -> None:
    """Print what became of a batch, and what to do next."""
    out.print()
    name = (outcome.batch and outcome.batch.base_name) or outcome.name
    if outcome.summary:
        print_summary(outcome.summary, name)
    else:
        out.print(f"Batch {escape(outcome.name)}: {outcome.status}")
    if outcome.failure:
        warn(outcome.failure)
    if outcome.trouble:
        warn(outcome.trouble)
    if outcome.batch:
        batch = outcome.batch
        print_place(name, batch.tracking_uri, batch.experiment, outcome.parent_run_id, outcome.link)
    for what, command in _next(outcome).items():
        out.print(f"{what:<8} {escape(command)}")


def _next(outcome: Outcome) -> dict[str, str]:
    """Return what to do now, by its label."""
    steps: dict[str, str] = {}
    if outcome.batch and outcome.batch.base_uid:
        if any(name.endswith("/mean") for name in (outcome.summary.scores if outcome.summary else ())):
            steps["Worst:"] = own_command("show", outcome.batch.base_name, "--worst", "METRIC")
        if outcome.summary and outcome.summary.lines_failed:
            steps["Errors:"] = own_command("show", outcome.batch.base_name, "--failed")
        return steps
    if outcome.lines_failed and outcome.batch:
        steps["Errors:"] = own_command("show", outcome.name, "--failed")
    if outcome.interrupted or outcome.lines_failed:
        steps["Go on:" if outcome.interrupted else "Again:"] = own_command("run", "--resume-from", outcome.name)
    return steps


def print_json(outcome: Outcome) -> None:
    """Print what became of a batch for a program."""
    out.print_json(data=outcome.as_dict())


def leave(outcome: Outcome) -> None:
    """End the command; at once if lines were given up, whose threads the interpreter would wait for."""
    code = _exit_code(outcome)
    if outcome.threads_left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def _exit_code(outcome: Outcome) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.status != "Completed":
        return 1
    return SOME_FAILED if outcome.lines_failed or outcome.lines_not_evaluated else 0
