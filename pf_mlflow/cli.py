"""The command `pf-mlflow`: a thin skin that parses, calls the package and prints."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from pf_mlflow import __version__, tables
from pf_mlflow.batch_run import Outcome, RunRequest, Watcher, run_batch
from pf_mlflow.errors import PfMlflowError
from pf_mlflow.llm import Llm
from pf_mlflow.progress import Progress
from pf_mlflow.settings import read_settings
from pf_mlflow.spool import Spool
from pf_mlflow.sync import Synced, chosen_batches, sync_batch

__all__ = ["main"]

SOME_FAILED = 3

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Pairs(click.ParamType[Any]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split a pair at its first `=`."""
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is no name=value pair", param, ctx)
        return name.strip(), text.strip().strip("'\"")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Everything a prompt flow did, line by line, in MLflow.

    Example: pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='${data.topic}'
    """


@main.command()
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
    try:
        outcome = run_batch(request, _Printer())
    except PfMlflowError as error:
        err.print(f"[red]Error:[/red] {escape(str(error))}")
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        err.print("Interrupted.")
        raise SystemExit(130) from None
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
        err.print(f"[yellow]Warning:[/yellow] {escape(sentence)}")


def _print(outcome: Outcome) -> None:
    out.print()
    if outcome.summary:
        out.print(tables.totals(outcome.summary, f"Batch {outcome.name}"))
        if outcome.summary.slowest:
            out.print(tables.slowest(outcome.summary))
        if outcome.summary.failed:
            out.print(tables.failures(outcome.summary))
    else:
        out.print(f"Batch {escape(outcome.name)}: {outcome.status}")
    if outcome.trouble:
        err.print(f"[yellow]Warning:[/yellow] {escape(outcome.trouble)}")
    if outcome.batch:
        uri = outcome.batch.tracking_uri
        experiment = f"experiment {outcome.batch.experiment!r}, parent run {outcome.parent_run_id}"
        out.print(f"\nMLflow:  {escape(uri)}, {escape(experiment)}")
        out.print(f"Look at: {escape(_ui_command(uri))}")


def _ui_command(uri: str) -> str:
    makefile = Path("Makefile")
    if uri == f"sqlite:///{(Path.cwd() / 'mlflow.db').as_posix()}" and makefile.is_file():
        if "mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlflow.db" in makefile.read_text("utf-8", "replace"):
            return "make ui"
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def _exit_code(outcome: Outcome) -> int:
    if outcome.status != "Completed":
        return 1
    return SOME_FAILED if outcome.lines_failed else 0


@main.command()
@click.argument("batches", nargs=-1, metavar="[BATCH]...")
@click.option("--all", "every", is_flag=True, help="Every batch that promptflow has run on this machine.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def sync(batches: tuple[str, ...], every: bool, dry_run: bool, as_json: bool) -> None:
    """Bring MLflow in line with finished batches: those named, or else all that MLflow does not fully have.

    Makes missing child runs from the spool and from promptflow's own folder, completes those that were left RUNNING,
    removes what is there twice, and sets status and sums of the parent run. A second time it changes nothing. Works for
    any local batch, also of flows without the nodes.

    Exit code: 0 MLflow is in line, 1 something could not be mended, 2 wrong command line.

    Example: pf-mlflow sync my_batch
    """
    if batches and every:
        raise click.UsageError("Name batches or say --all, not both.")
    try:
        settings = read_settings()
        spool = Spool(settings.spool_dir)
        chosen = chosen_batches(spool, settings, batches, every)
        with Progress(err) as watcher:
            done = [sync_batch(spool, batch, settings, dry_run, watcher) for batch in chosen]
    except (PfMlflowError, OSError, sqlite3.Error) as error:
        err.print(f"[red]Error:[/red] {escape(_sentence(error))}")
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        err.print("Interrupted; what was done stays, and the rest can be done later.")
        raise SystemExit(130) from None
    if as_json:
        out.print_json(data={"dry_run": dry_run, "batches": [one.as_dict() for one in done]})
    else:
        _print_synced(done, dry_run)
    raise SystemExit(0 if all(one.is_mendable for one in done) else 1)


def _sentence(error: Exception) -> str:
    if isinstance(error, PfMlflowError):
        return str(error)
    return f"The spool cannot be used: {error} — free its disk, or set PF_MLFLOW_SPOOL_DIR to another folder."


def _print_synced(done: list[Synced], dry_run: bool) -> None:
    if done:
        out.print(tables.synced(done, dry_run))
    for one in done:
        if one.trouble:
            err.print(f"[yellow]Warning:[/yellow] {escape(one.name)}: {escape(one.trouble)}")
    for place in dict.fromkeys((one.tracking_uri, one.experiment) for one in done):
        out.print(f"MLflow:  {escape(place[0])}, experiment {escape(repr(place[1]))}")
    if not done:
        out.print("Nothing is left over: MLflow has all that the spool ever held.")
    elif all(one.state == "in line" for one in done):
        out.print("Nothing to do: MLflow is in line.")


if __name__ == "__main__":
    main()
