"""`pf-mlflow run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from pf_mlflow.batch_run import Outcome, RunRequest, Watcher, run_batch
from pf_mlflow.cli.output import one_sentence, out, print_place, print_summary, warn
from pf_mlflow.llm import Llm

__all__ = ["run"]

SOME_FAILED = 3


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
@click.option("--flow", type=click.Path(path_type=Path), default=Path("."), help="Folder of the flow. Default: here.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The lines: a JSONL file.")
@click.option(
    "--column-mapping",
    type=Pairs(),
    multiple=True,
    metavar="INPUT='${data.COLUMN}'",
    help="Which column goes to which input; may be given several times.",
)
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
@click.option(
    "--engine",
    type=click.Choice(["processes"]),
    default="processes",
    show_default=True,
    help="What executes the lines: promptflow's own pool of processes.",
)
@click.option("--concurrency", type=click.IntRange(min=1), default=4, show_default=True, help="Lines at once.")
def run(
    flow: Path,
    data: Path,
    column_mapping: tuple[tuple[str, str], ...],
    name: str | None,
    display_name: str | None,
    tags: tuple[tuple[str, str], ...],
    variant: str | None,
    connections: tuple[tuple[str, str], ...],
    engine: str,
    concurrency: int,
) -> None:
    """Run a flow over a data file; every line becomes an MLflow child run.

    Exit code: 0 all lines completed, 3 some failed, 1 error, 2 wrong command line, 130 interrupted.

    Example: pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='${data.topic}'
    """
    request = RunRequest(
        flow, data, dict(column_mapping), name, display_name, dict(tags), variant, _by_node(connections), concurrency
    )
    with one_sentence():
        outcome = run_batch(request, _Printer())
    _print(outcome)
    raise SystemExit(_exit_code(outcome))


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
    def starting(self, llm: Llm, tracking_uri: str) -> None:
        out.print(f"Language model: {escape(llm.label)}")
        if llm.offline:
            out.print("  (set OPENAI_API_KEY, or make a promptflow connection open_ai_connection, to use a real one)")
        out.print(f"Tracking to:    {escape(tracking_uri) or 'nowhere, PF_MLFLOW_ENABLED is false'}")

    def warn(self, sentence: str) -> None:
        warn(sentence)


def _print(outcome: Outcome) -> None:
    out.print()
    if outcome.summary:
        print_summary(outcome.summary, outcome.name)
    else:
        out.print(f"Batch {escape(outcome.name)}: {outcome.status}")
    if outcome.trouble:
        warn(outcome.trouble)
    if outcome.batch:
        batch = outcome.batch
        print_place(outcome.name, batch.tracking_uri, batch.experiment, outcome.parent_run_id, outcome.link)


def _exit_code(outcome: Outcome) -> int:
    if outcome.status != "Completed":
        return 1
    return SOME_FAILED if outcome.lines_failed else 0
