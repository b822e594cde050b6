"""`pf-mlflow show`."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.markup import escape

from pf_mlflow.cli.output import busy, one_sentence, out, own_command, print_json, print_place, print_summary, warn
from pf_mlflow.records.batch import on_batch
from pf_mlflow.reports import tables
from pf_mlflow.reports.show import (
    DELETED,
    EVALUATION,
    MISSING,
    RUNNING,
    UNFINISHED,
    BatchReport,
    FailedLine,
    show_batch,
)
from pf_mlflow.settings import read_settings
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import restoring

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
        report = show_batch(Spool(settings.spool_dir), settings, batch, failed, worst or "")
    if as_json:
        print_json("show", report.as_dict())
    else:
        _print(report, failed, worst)


def _print(report: BatchReport, failed: bool, worst: str | None) -> None:
    if report.summary:
        print_summary(report.summary, report.batch.name, report.status or "no parent run")
    else:
        out.print(f"Batch {escape(report.batch.name)}")
    if worst and report.summary:
        out.print(tables.worst(report.summary, worst))
    if failed and report.parent_run_id:
        _print_failures(report.failures)
    for sentence in _remarks(report):
        warn(sentence)
    if report.state != EVALUATION:
        batch = report.batch
        print_place(batch.name, batch.tracking_uri, batch.experiment, report.parent_run_id, report.link)
    if report.summary and report.summary.lines_failed:
        out.print(f"Errors:  {escape(own_command(*on_batch('show', report.batch.name, '--failed')))}")


def _print_failures(lines: tuple[FailedLine, ...]) -> None:
    for line in lines:
        out.print(f"\n[bold]Line {line.line_number}[/bold]  {escape(line.label)}")
        out.print(escape(line.link or f"run {line.run_id}"))
        out.print(escape(line.error or "No error was told."))
    out.print(f"\n{_count(len(lines), 'line', 'lines')} failed.")


def _remarks(report: BatchReport) -> Iterator[str]:
    """Yield what MLflow does not show of the batch, and what to do about it."""
    sync = f"`{own_command(*on_batch('sync', report.batch.name))}`"
    coming = _count(max(report.lines_open, report.lines_waiting), "line", "lines")
    if report.state == EVALUATION:
        base = report.base_batch or ""
        see = own_command(*on_batch("show", base))
        yield f"It scores the lines of {base!r} and has no runs of its own; see `{see}`."
    elif report.state == RUNNING:
        yield f"It still runs: these are the lines so far, and {coming} on their way."
    elif report.state == MISSING:
        yield f"MLflow has nothing of it ({coming} in the spool); {sync} brings it in."
    elif report.state == DELETED:
        yield f"Somebody deleted its runs in MLflow; `{restoring(report.deleted_run_id or '')}` brings the batch back."
    elif report.state == UNFINISHED:
        yield f"MLflow does not have all of it yet ({coming} on their way); {sync} brings it in line."
    if report.runs_twice:
        yield f"{_count(report.runs_twice, 'run', 'runs')} there twice, and counted once; {sync} takes them away."
    if report.lines_refused:
        refused = _count(report.lines_refused, "line", "lines")
        yield f"MLflow refused the values of {refused}; {sync} tries again and says why."
    if report.evaluation_cut_off:
        again = own_command(*on_batch("evaluate", report.batch.name))
        yield f"Its evaluation {report.evaluation_cut_off!r} was cut off; `{again}` scores all lines."
    yield from filter(None, (report.error, report.trouble))
    if report.older:
        yield f"{_count(report.older, 'older batch', 'older batches')} of this name, too: this is the newest."


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
