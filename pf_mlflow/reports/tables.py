"""What the command shows of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from pf_mlflow.delivery.sync import Synced
from pf_mlflow.projection.summary import BatchSummary, LineStats
from pf_mlflow.scoring.sums import VERSION

__all__ = ["failures", "judges", "scores", "seconds", "slowest", "synced", "totals", "worst"]


_JUDGED, _ERRORS = "response/llm_judged/", "/error_count"


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
        table.add_row(*_failure(line))
    if (more := summary.lines_failed - len(summary.failed)) > 0:
        table.add_row("…", f"and {more} more", "")
    return table


def scores(summary: BatchSummary) -> Table:
    """Return the table of a batch's scores: over all lines that have them."""
    table = _table("Scores", "metric", "mean", "p90", "variance", "lines", "errors")
    told = summary.scores
    names = {name.rpartition(f"{VERSION}/")[0]: None for name in told if f"{VERSION}/" in name}
    for name in names:
        values = [told.get(f"{name}{VERSION}/{kind}") for kind in ("mean", "p90", "variance")]
        count, errors = (told.get(f"{name}{VERSION}/{kind}", 0) for kind in ("count", "error_count"))
        table.add_row(Text(name), *map(_number, values), f"{count:,.0f}", f"{errors:,.0f}" if errors else "–")
    return table


def judges(summary: BatchSummary) -> Table:
    """Return the table of what judges said of a batch: the share of each word among a judge's verdicts, and errors."""
    table, told = _table("Judges", "judge", "yes", "other words", "errors"), summary.scores
    for name in (
        key[len(_JUDGED) : -len(_ERRORS)] for key in told if key.startswith(_JUDGED) and key.endswith(_ERRORS)
    ):
        share, start = told.get(f"{_JUDGED}{name}/percentage"), f"{_JUDGED}{name}/percentage/"
        words = ", ".join(f"{key[len(start) :]} {told[key]:.0%}" for key in told if key.startswith(start))
        errors = told[f"{_JUDGED}{name}{_ERRORS}"]
        yes = "–" if share is None else f"{share:.0%}"
        table.add_row(Text(name), yes, Text(words or "–"), f"{errors:,.0f}" if errors else "–")
    given, cached, tokens = (told.get(f"judge/{kind}", 0) for kind in ("verdicts", "cached", "total_tokens"))
    lines = [f"{told['overall/pass_rate']:.0%} of the lines pass"] if "overall/pass_rate" in told else []
    lines += [f"{given:,.0f} verdicts, {cached:,.0f} from before", f"{tokens:,.0f} tokens"]
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def worst(summary: BatchSummary, metric: str) -> Table:
    """Return the table of the lines with the lowest scores of a metric."""
    table = _table(f"Worst lines by {metric}", "line", metric, "latency", "tokens", "input")
    for line in summary.worst:
        cells = (_number(line.scores[metric]), seconds(line.duration), _count(line.total_tokens))
        table.add_row(str(line.line_number), *cells, Text(line.label))
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _table(title: str | None, *columns: str) -> Table:
    """Return a table in which names and texts go on in the next line where there is no room, and nothing is cut."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in _SHORT)
    return table


_SHORT = {"line", "lines", "latency", "tokens", "state"}


def _failure(line: LineStats) -> tuple[str, Text, Text]:
    error = line.error.splitlines()[0] if line.error else ""
    return str(line.line_number), Text(error), Text(line.label)


def seconds(value: float | None) -> str:
    """Return a duration to three significant digits in ms below one second, in s above."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s" if value < 999.5 else f"{value:.0f} s"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def synced(batches: Sequence[Synced], rehearsed: bool) -> Table:
    """Return the table of what was found of batches and done; `rehearsed`: of what would be done."""
    table = _table(None, "batch", "state", "lines", "to do" if rehearsed else "done")
    for one in batches:
        state = f"to be {one.state}" if rehearsed and one.state == "mended" else one.state
        done = [f"{number:,} {what}" for field, what in _DONE.items() if (number := getattr(one, field))]
        done += [f"parent run {one.parent}"] if one.parent else []
        table.add_row(Text(one.name or "single runs"), state, _count(one.lines or None), ", ".join(done) or "–")
    return table


_DONE = {"made": "made", "completed": "completed", "removed": "removed as twins", "refused": "refused"}
"""What is counted of a batch, and how it is put."""
