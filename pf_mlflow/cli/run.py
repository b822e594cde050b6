"""`pf-mlflow run`."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pf_mlflow.adoption.upgrade import upgrade_notice
from pf_mlflow.cli.evaluate import evaluation_request
from pf_mlflow.cli.live import ConsoleObserver
from pf_mlflow.cli.output import one_sentence, own_command, print_json, stdout_kept, warn
from pf_mlflow.cli.parameters import NamedPath, Pairs
from pf_mlflow.cli.pf_options import PfCommand, pf_options, with_file
from pf_mlflow.cli.result import leave, print_result
from pf_mlflow.errors import BadInput, PfMlflowError
from pf_mlflow.evaluation.request import EvaluationRequest
from pf_mlflow.evaluation.run import check_before
from pf_mlflow.evaluation.run import evaluate as run_evaluation
from pf_mlflow.records.batch import on_batch
from pf_mlflow.running.request import PROCESSES, THREADS, RunRequest
from pf_mlflow.running.result import RunResult
from pf_mlflow.running.run import run_batch
from pf_mlflow.settings import read_settings

__all__ = ["run"]


@click.command(cls=PfCommand)
@click.option("--flow", type=NamedPath(), help="Folder of the flow, or a prompty. Default: here.")
@click.option("--data", type=NamedPath(), help="The lines: a JSONL file.")
@click.option(
    "--column-mapping",
    type=Pairs(),
    multiple=True,
    metavar="INPUT='${data.COLUMN}'",
    help="Which column goes to which input; may be given several times.",
)
@click.option("--run", "base", metavar="BATCH", help="A batch whose outputs are inputs: '${run.outputs.NAME}'.")
@click.option("--resume-from", metavar="BATCH", help="Take over a batch's completed lines, and execute the others.")
@click.option(
    "--resume-changed", is_flag=True, help="With --resume-from: take them over though data or flow changed since."
)
@click.option("--name", "-n", help="Name of the batch. Default: promptflow makes one up.")
@click.option("--display-name", help="Name of the batch's run in MLflow. Default: the batch's name.")
@click.option("--tags", type=Pairs(), multiple=True, help="A tag of promptflow's run record; several times.")
@click.option("--parent-run", metavar="ID", help="A run of yours in MLflow that the batch's run is put below.")
@click.option("--variant", metavar="'${NODE.VARIANT}'", help="Variant of a node to use.")
@click.option(
    "--connections",
    type=Pairs(),
    multiple=True,
    metavar="NODE.KEY=VALUE",
    help="Connection, model or deployment_name of a node instead of the flow's; several times.",
)
@click.option("--init", type=Pairs(), multiple=True, help="An argument of a flex flow's class; several times.")
@click.option("--concurrency", type=int, help="Lines at once. Default: 32, of processes 4.")
@click.option("--limit", type=int, help="Execute the first lines only, so many.")
@click.option("--line-timeout", type=int, help="Seconds a line may take. Default: 600.")
@click.option(
    "--engine",
    type=click.Choice([THREADS, PROCESSES]),
    default=THREADS,
    show_default=True,
    help="What executes the lines: threads of this process, or promptflow's own pool of processes.",
)
@click.option("--evaluate", type=NamedPath(), metavar="FLOW", help="Then score its lines by this flow.")
@click.option("--metrics", help="With --evaluate: metrics, or files with your own, with commas.")
@pf_options
@click.option("--no-wait", is_flag=True, help="Do not wait until MLflow has every line.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def run(
    as_json: bool,
    evaluate: Path | None,
    metrics: str | None,
    file: Path | None,
    sets: tuple[tuple[str, str], ...],
    stream: bool,
    **options: Any,
) -> None:
    """Run a flow over a data file; every line becomes an MLflow child run.

    Takes DAG flows with and without our nodes, flex flows and prompties. Ctrl-C stops taking lines and waits for those
    that run, once more it does not wait; `--resume-from` goes on with the rest.

    Waits until MLflow has all of it, as long as anything moves. Exit code: 0 all lines completed, 3 some or their sums
    failed, 4 MLflow does not have all, 1 error, 2 wrong command line, 130 interrupted.

    Example: pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='${data.topic}'
    """
    if metrics and not evaluate:
        raise click.UsageError("--metrics says what --evaluate FLOW scores by; give both, or neither.")
    request = _request(**with_file(options, file, sets))
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(stdout_kept())
        with one_sentence():
            if notice := upgrade_notice(request.flow or Path(), read_settings().spool_dir):
                warn(notice)
            with ConsoleObserver(quiet=as_json) as console:
                asked = evaluation_request(None, metrics, flow=evaluate, wait=request.wait) if evaluate else None
                if asked:
                    asked = check_before(asked, request)
                result = run_batch(request, console)
                if asked and not result.interrupted and result.status == "Completed":
                    result = _scored(result, asked, console)
    print_json("result", result.as_dict()) if as_json else print_result(result)
    leave(result)


def _scored(result: RunResult, asked: EvaluationRequest, console: ConsoleObserver) -> RunResult:
    """Return the result of scoring a batch; where that fails, the batch's own, which was paid for."""
    try:
        return run_evaluation(replace(asked, base=result.name), console).after(result)
    except (PfMlflowError, OSError, sqlite3.Error) as error:
        again = own_command(*on_batch("evaluate", result.name))
        return replace(result, failure=f"It was not scored: {' '.join(str(error).split())} Mend that, then `{again}`.")
    except KeyboardInterrupt:
        return replace(result, interrupted=True)


def _request(**options: Any) -> RunRequest:
    for name in ("column_mapping", "tags", "init", "environment_variables"):
        options[name] = dict(options[name])
    options["connections"] = _by_node(options["connections"])
    try:
        return RunRequest(run=options.pop("base"), wait=not options.pop("no_wait"), **options)
    except BadInput as error:
        raise click.UsageError(str(error)) from error


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
