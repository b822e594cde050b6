"""`pf-mlflow run`."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from pf_mlflow.batch_run import run_batch
from pf_mlflow.cli.live import LiveRun
from pf_mlflow.cli.output import err, one_sentence, out, own_command, print_place, print_summary, stdout_kept, warn
from pf_mlflow.llm import Llm
from pf_mlflow.run_request import PROCESSES, THREADS, Outcome, RunRequest, Watcher
from pf_mlflow.run_watch import RunWatch

__all__ = ["run"]

SOME_FAILED = 3
INTERRUPTED = 130
_DEFAULT_LINES = {THREADS: 32, PROCESSES: 4}


class Pairs(click.ParamType[Any]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split a pair at its first `=`."""
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is no name=value pair", param, ctx)
        return name.strip(), text.strip().strip("'\"")


@click.command()
@click.option("--flow", type=click.Path(path_type=Path), help="Folder of the flow, or a prompty. Default: here.")
@click.option("--data", type=click.Path(path_type=Path), help="The lines: a JSONL file.")
@click.option(
    "--column-mapping",
    type=Pairs(),
    multiple=True,
    metavar="INPUT='${data.COLUMN}'",
    help="Which column goes to which input; may be given several times.",
)
@click.option("--run", "base", metavar="BATCH", help="A batch whose outputs are inputs: '${run.outputs.NAME}'.")
@click.option("--resume-from", metavar="BATCH", help="Take over a batch's completed lines, and execute the others.")
@click.option("--name", help="Name of the batch. Default: promptflow makes one up.")
@click.option("--display-name", help="Name of the batch's run in MLflow. Default: the batch's name.")
@click.option("--tags", type=Pairs(), multiple=True, help="A tag of promptflow's run record; several times.")
@click.option("--variant", metavar="'${NODE.VARIANT}'", help="Variant of a node to use.")
@click.option(
    "--connections",
    type=Pairs(),
    multiple=True,
    metavar="NODE.KEY=VALUE",
    help="Connection, model or deployment_name of a node instead of the flow's; several times.",
)
@click.option("--init", type=Pairs(), multiple=True, help="An argument of a flex flow's class; several times.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Lines at once. Default: 32, of processes 4.")
@click.option("--limit", type=click.IntRange(min=1), help="Execute the first lines only, so many.")
@click.option("--line-timeout", type=click.IntRange(min=1), help="Seconds a line may take. Default: 600.")
@click.option(
    "--engine",
    type=click.Choice([THREADS, PROCESSES]),
    default=THREADS,
    show_default=True,
    help="What executes the lines: threads of this process, or promptflow's own pool of processes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def run(as_json: bool, **options: Any) -> None:
    """Run a flow over a data file; every line becomes an MLflow child run.

    Takes DAG flows with and without our nodes, flex flows and prompties. Ctrl-C stops taking lines and waits for those
    that run, once more it does not wait; `--resume-from` goes on with the rest.

    Exit code: 0 all lines completed, 3 some failed, 1 error, 2 wrong command line, 130 interrupted.

    Example: pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='${data.topic}'
    """
    request = _request(**options)
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(stdout_kept())
        with one_sentence():
            with LiveRun(err) as live:
                outcome = run_batch(request, _Printer(live, quiet=as_json))
    _print_json(outcome) if as_json else _print(outcome)
    _leave(outcome)


def _request(**options: Any) -> RunRequest:
    if options["resume_from"]:
        _refuse_beside(options, "--resume-from", ["flow", "data", "column_mapping", "base", "variant", "connections"])
    elif not options["data"] and not options["base"]:
        raise click.UsageError("There is nothing to run on: name a file with --data, or a batch with --run.")
    if options["limit"] and options["engine"] == PROCESSES:
        raise click.UsageError("--limit is for threads only.")
    for name in ("column_mapping", "tags", "init"):
        options[name] = dict(options[name])
    options["connections"] = _by_node(options["connections"])
    options["concurrency"] = options["concurrency"] or _DEFAULT_LINES[options["engine"]]
    return RunRequest(run=options.pop("base"), **options)


def _refuse_beside(options: dict[str, Any], option: str, others: list[str]) -> None:
    if given := [name for name in others if options[name]]:
        names = ", ".join("--run" if name == "base" else f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{option} takes all of the earlier batch; leave out {names}.")


def _by_node(pairs: tuple[tuple[str, str], ...]) -> dict[str, dict[str, str]]:
    nodes: dict[str, dict[str, str]] = {}
    for key, value in pairs:
        node, dot, name = key.partition(".")
        if not dot:
            raise click.BadParameter(
                f"{key!r} names no node and key, as in joke.connection=NAME", param_hint="--connections"
            )
        nodes.setdefault(node, {})[name] = value
    return nodes


class _Printer(Watcher):
    def __init__(self, live: LiveRun, quiet: bool) -> None:
        self._live = live
        self._print = err.print if quiet else out.print

    def starting(self, llm: Llm, tracking_uri: str) -> None:
        self._print(f"Language model: {escape(llm.label)}")
        if llm.offline:
            self._print("  (set OPENAI_API_KEY, or make a promptflow connection open_ai_connection, to use a real one)")
        self._print(f"Tracking to:    {escape(tracking_uri) or 'nowhere, PF_MLFLOW_ENABLED is false'}")

    def running(self, watch: RunWatch) -> None:
        self._live.of(watch)

    def warn(self, sentence: str) -> None:
        warn(sentence)


def _print(outcome: Outcome) -> None:
    out.print()
    if outcome.summary:
        print_summary(outcome.summary, outcome.name)
    else:
        out.print(f"Batch {escape(outcome.name)}: {outcome.status}")
    if outcome.failure:
        warn(outcome.failure)
    if outcome.trouble:
        warn(outcome.trouble)
    if outcome.batch:
        batch = outcome.batch
        print_place(outcome.name, batch.tracking_uri, batch.experiment, outcome.parent_run_id, outcome.link)
    for what, command in _next(outcome).items():
        out.print(f"{what:<8} {escape(command)}")


def _next(outcome: Outcome) -> dict[str, str]:
    """Return what to do now, by its label."""
    steps = {}
    if outcome.lines_failed and outcome.batch:
        steps["Errors:"] = own_command("show", outcome.name, "--failed")
    if outcome.interrupted or outcome.lines_failed:
        steps["Go on:" if outcome.interrupted else "Again:"] = own_command("run", "--resume-from", outcome.name)
    return steps


def _print_json(outcome: Outcome) -> None:
    out.print_json(data=outcome.as_dict())


def _leave(outcome: Outcome) -> None:
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
    return SOME_FAILED if outcome.lines_failed else 0
