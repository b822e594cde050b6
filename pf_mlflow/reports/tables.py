"""Draws the tables of a batch for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from pf_mlflow.delivery.sync import Synced
from pf_mlflow.projection.cost import COSTS, dollars
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.scoring.sums import JUDGED, VERSION

__all__ = ["failures", "judges", "scores", "seconds", "slowest", "summary_tables", "synced", "totals", "worst"]

_ONE_LINE = {"line", "lines", "latency", "tokens", "state"}
"""Columns whose cells are never folded."""
_DONE = {"made": "made", "completed": "completed", "removed": "removed as twins", "refused": "refused"}
"""What `sync` counts of a batch, and how it is put."""


def summary_tables(summary: BatchSummary, status: str | None = None) -> Iterator[Table]:
    """Yield the tables of a batch: totals, scores and judges if there are any, slowest and failed lines."""
    yield totals(summary, status)
    if any(f"{VERSION}/" in name for name in summary.scores):
        yield scores(summary)
    if "judge/verdicts" in summary.scores:
        yield judges(summary)
    if summary.slowest:
        yield slowest(summary)
    if summary.failed:
        yield failures(summary)


def totals(summary: BatchSummary, status: str | None = None) -> Table:
    """Return the table of a batch's totals; `status`: of its parent run, where that is of interest."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    if status:
        table.add_row("status", status)
    table.add_row("lines completed / failed", f"{summary.lines_completed} / {summary.lines_failed}")
    prompt, completion, total = (
        _count(summary.tokens.get(f"{kind}_tokens")) for kind in ("prompt", "completion", "total")
    )
    table.add_row("tokens, prompt + completion = total", f"{prompt} + {completion} = {total}")
    if summary.costs:
        total, *parts = (dollars(summary.costs.get(kind)) for kind in COSTS)
        table.add_row("cost, prompt + completion = total", f"{' + '.join(parts)} = {total}")
    if summary.scores:
        evaluated, not_evaluated = (summary.scores[f"lines_{kind}"] for kind in ("evaluated", "not_evaluated"))
        table.add_row("lines evaluated / not evaluated", f"{evaluated:.0f} / {not_evaluated:.0f}")
    for name in ("p50", "p90", "p99"):
        table.add_row(f"latency {name}", seconds(summary.durations.get(name)))
    return table


def slowest(summary: BatchSummary) -> Table:
    """Return the table of a batch's slowest lines."""
    table = _table("Slowest lines", "line", "latency", "tokens", "input")
    for line in summary.slowest:
        table.add_row(str(line.line_number), seconds(line.duration), _count(line.total_tokens), Text(line.label))
    return table


def failures(summary: BatchSummary) -> Table:
    """Return the table of a batch's failed lines and their errors, the first ones."""
    table = _table("Failed lines", "line", "error", "input")
    for line in summary.failed:
        error = line.error.splitlines()[0] if line.error else ""
        table.add_row(str(line.line_number), Text(error), Text(line.label))
    if (more := summary.lines_failed - len(summary.failed)) > 0:
        table.add_row("…", f"and {more} more", "")
    return table


def scores(summary: BatchSummary) -> Table:
    """Return the table of a batch's scores, over all lines that have them."""
    table, sums = _table("Scores", "metric", "mean", "p90", "variance", "lines", "errors"), summary.scores
    for name in dict.fromkeys(key.rpartition(f"{VERSION}/")[0] for key in sums if f"{VERSION}/" in key):
        values = [sums.get(f"{name}{VERSION}/{kind}") for kind in ("mean", "p90", "variance")]
        count, errors = (sums.get(f"{name}{VERSION}/{kind}", 0) for kind in ("count", "error_count"))
        table.add_row(Text(name), *map(_number, values), f"{count:,.0f}", _errors(errors))
    return table


def judges(summary: BatchSummary) -> Table:
    """Return the table of what judges said of a batch: the share of each word among a judge's verdicts, and errors."""
    table, sums = _table("Judges", "judge", "yes", "other words", "errors"), summary.scores
    for key in (key for key in sums if key.startswith(JUDGED) and key.endswith("/error_count")):
        judge, yes = key.removesuffix("/error_count"), f"{key.removesuffix('/error_count')}/percentage"
        words = (f"{one.removeprefix(f'{yes}/')} {sums[one]:.0%}" for one in sums if one.startswith(f"{yes}/"))
        share = f"{sums[yes]:.0%}" if yes in sums else "–"
        table.add_row(Text(judge.removeprefix(JUDGED)), share, Text(", ".join(words) or "–"), _errors(sums[key]))
    given, cached, tokens = (sums.get(f"judge/{kind}", 0) for kind in ("verdicts", "cached", "total_tokens"))
    lines = [f"{sums['overall/pass_rate']:.0%} of the lines pass"] if "overall/pass_rate" in sums else []
    cost = f", {dollars(sums['judge/cost'])}" if "judge/cost" in sums else ""
    lines += [f"{given:,.0f} verdicts, {cached:,.0f} from before", f"{tokens:,.0f} tokens{cost}"]
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def worst(summary: BatchSummary, metric: str) -> Table:
    """Return the table of the lines with the lowest scores of a metric."""
    table = _table(f"Worst lines by {metric}", "line", metric, "latency", "tokens", "input")
    for line in summary.worst:
        cells = (_number(line.scores[metric]), seconds(line.duration), _count(line.total_tokens))
        table.add_row(str(line.line_number), *cells, Text(line.label))
    return table


def synced(batches: Sequence[Synced], rehearsed: bool) -> Table:
    """Return the table of what was found of batches and done; `rehearsed`: of what would be done."""
    table = _table(None, "batch", "state", "lines", "to do" if rehearsed else "done")
    for one in batches:
        state = f"to be {one.state}" if rehearsed and one.state == "mended" else one.state
        done = [f"{number:,} {what}" for field, what in _DONE.items() if (number := getattr(one, field))]
        done += [f"parent run {one.parent}"] if one.parent else []
        table.add_row(Text(one.name or "single runs"), state, _count(one.lines or None), ", ".join(done) or "–")
    return table


def _table(title: str | None, *columns: str) -> Table:
    """Return a table in which names and texts go on in the next line where there is no room, and nothing is cut."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in _ONE_LINE)
    return table


def seconds(value: float | None) -> str:
    """Return a duration to three significant digits in ms below one second, in s above."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s" if value < 999.5 else f"{value:.0f} s"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _errors(count: float) -> str:
    return f"{count:,.0f}" if count else "–"
