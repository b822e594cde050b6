"""`pf-mlflow show`."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.markup import escape

from pf_mlflow.cli.output import busy, one_sentence, out, own_command, print_place, print_summary, warn
from pf_mlflow.errors import BadInput
from pf_mlflow.reports import tables
from pf_mlflow.reports.show import DELETED, EVALUATION, MISSING, RUNNING, UNFINISHED, FailedLine, Shown, show_batch
from pf_mlflow.scoring.sums import VERSION
from pf_mlflow.settings import read_settings
from pf_mlflow.spool.store import Spool

__all__ = ["show"]


@click.command()
@click.argument("batch")
@click.option("--failed", is_flag=True, help="Every line that failed, with its whole error, instead of the summary.")
@click.option("--worst", metavar="METRIC", help="The lines with the lowest scores of a metric, worst first.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def show(batch: str, failed: bool, worst: str | None, as_json: bool) -> None:
    """Show a batch as MLflow has it: lines, tokens, latency, the slowest and the failed lines, and where to look.

    Works from any folder, while the batch runs and afterwards, and changes nothing.

    Exit code: 0 shown, even if lines failed, 1 error, 2 wrong command line.

    Example: pf-mlflow show my_batch
    """
    with one_sentence(), busy("Reading …"):
        settings = read_settings()
        shown = show_batch(Spool(settings.spool_dir), settings, batch, failed, worst or "")
        _check_metric(shown, worst)
    if as_json:
        out.print_json(data=shown.as_dict())
    else:
        _print(shown, failed, worst)


def _check_metric(shown: Shown, worst: str | None) -> None:
    sums = shown.summary.scores if shown.summary else {}
    if worst and f"{worst}{VERSION}/mean" not in sums:
        known = ", ".join(name.removesuffix(f"{VERSION}/mean") for name in sums if name.endswith("/mean"))
        raise BadInput(
            f"No line has a score {worst!r}; {f'there are {known}' if known else '`pf-mlflow evaluate` scores them'}."
        )


def _print(shown: Shown, failed: bool, worst: str | None) -> None:
    if shown.summary:
        print_summary(shown.summary, shown.batch.name, shown.status or "no parent run")
    else:
        out.print(f"Batch {escape(shown.batch.name)}")
    if worst and shown.summary:
        out.print(tables.worst(shown.summary, worst))
    if failed and shown.parent_run_id:
        _print_failures(shown.failures)
    for sentence in _remarks(shown):
        warn(sentence)
    if shown.state != EVALUATION:
        batch = shown.batch
        print_place(batch.name, batch.tracking_uri, batch.experiment, shown.parent_run_id, shown.link)
    if shown.summary and shown.summary.lines_failed:
        out.print(f"Errors:  {escape(own_command('show', shown.batch.name, '--failed'))}")


def _print_failures(lines: tuple[FailedLine, ...]) -> None:
    for line in lines:
        out.print(f"\n[bold]Line {line.line_number}[/bold]  {escape(line.label)}")
        out.print(escape(line.link or f"run {line.run_id}"))
        out.print(escape(line.error or "No error was told."))
    out.print(f"\n{_count(len(lines), 'line', 'lines')} failed.")


def _remarks(shown: Shown) -> Iterator[str]:
    """Yield what MLflow does not show of the batch, and what to do about it."""
    sync = f"`{own_command('sync', shown.batch.name)}`"
    coming = _count(max(shown.lines_open, shown.lines_waiting), "line", "lines")
    if shown.state == EVALUATION:
        base = shown.base_batch or ""
        yield f"It scores the lines of {base!r} and has no runs of its own; see `{own_command('show', base)}`."
    elif shown.state == RUNNING:
        yield f"It still runs: these are the lines so far, and {coming} on their way."
    elif shown.state == MISSING:
        yield f"MLflow has nothing of it ({coming} in the spool); {sync} brings it in."
    elif shown.state == DELETED:
        yield "Somebody deleted its runs in MLflow; `mlflow runs restore` brings them back."
    elif shown.state == UNFINISHED:
        yield f"MLflow does not have all of it yet ({coming} on their way); {sync} brings it in line."
    if shown.runs_twice:
        yield f"{_count(shown.runs_twice, 'run', 'runs')} there twice, and counted once; {sync} takes them away."
    if shown.lines_refused:
        refused = _count(shown.lines_refused, "line", "lines")
        yield f"MLflow refused the values of {refused}; {sync} tries again and says why."
    if shown.trouble:
        yield shown.trouble
    if shown.older:
        yield f"{_count(shown.older, 'older batch', 'older batches')} of this name, too: this is the newest."


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
