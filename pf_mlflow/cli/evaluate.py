"""`pf-mlflow evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pf_mlflow.cli.live import ConsoleObserver
from pf_mlflow.cli.output import one_sentence, print_json, stdout_kept
from pf_mlflow.cli.parameters import NamedPath, Pairs
from pf_mlflow.cli.pf_options import PfCommand, pf_options, with_file
from pf_mlflow.cli.result import leave, print_result
from pf_mlflow.evaluation.request import EvaluationRequest, metric_names
from pf_mlflow.evaluation.run import evaluate as run_evaluation

__all__ = ["evaluate"]


@click.command(cls=PfCommand)
@click.argument("batch", required=False)
@click.option("--flow", type=NamedPath(), help="Folder of the evaluation flow. Default: the one included.")
@click.option("--data", type=NamedPath(), help="A file: the batch's own rows, or finished answers.")
@click.option(
    "--column-mapping",
    type=Pairs(),
    multiple=True,
    metavar="INPUT='${data.COLUMN}'",
    help="Where an input comes from that is not found by its name; may be given several times.",
)
@click.option(
    "--metrics", help="Names of metrics, or files with your own, with commas. Default: all that can be given."
)
@click.option("--judge-model", default="", metavar="MODEL", help="Model of the judges, on Azure its deployment.")
@click.option("--judge-connection", metavar="NAME", help="Connection to that model. Default: open_ai_connection.")
@click.option("--retry-errors", is_flag=True, help="Run the last evaluation again; only judges that failed are asked.")
@click.option("--name", "-n", help="Name of the evaluation. Default: promptflow makes one up.")
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True, help="Lines at once.")
@pf_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def evaluate(
    as_json: bool,
    metrics: str | None,
    file: Path | None,
    sets: tuple[tuple[str, str], ...],
    stream: bool,
    **options: Any,
) -> None:
    """Score the lines of a batch, or finished answers: onto their child runs, summed up on their parent run.

    Answers, questions, ground truths and contexts are found by their names in the batch's outputs and data. A second
    evaluation takes the place of the first.

    Exit code: 0 all lines were scored, 3 some were not, 4 MLflow does not have all scores, 1 error, 2 wrong command
    line, 130 interrupted.

    Example: pf-mlflow evaluate my_batch
    """
    options = with_file(options, file, sets)
    request = evaluation_request(options.pop("batch"), metrics, **options)
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(stdout_kept())
        with one_sentence():
            with ConsoleObserver(quiet=as_json) as console:
                result = run_evaluation(request, console)
    print_json("result", result.as_dict()) if as_json else print_result(result)
    leave(result)


def evaluation_request(batch: str | None, metrics: str | None, **options: Any) -> EvaluationRequest:
    """Return what the options of a command ask for."""
    for name in ("column_mapping", "environment_variables"):
        options[name] = dict(options.get(name, ()))
    return EvaluationRequest(base=batch, metrics=metric_names(metrics or ""), **options)
