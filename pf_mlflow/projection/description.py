"""What a batch's own page says of it in Markdown. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pf_mlflow.projection.shared_views import NO_MERIT, mean_scores
from pf_mlflow.projection.summary import BatchSummary, LineStats
from pf_mlflow.records.batch import command_on
from pf_mlflow.scoring.sums import VERSION
from pf_mlflow.tracking.links import ANSWERS_VIEW, BATCHES_VIEW, CHARTS_VIEW, LINES_VIEW

__all__ = ["description", "worst_metric"]

_NAMED = 3
"""How many lines, and how many kinds of errors, are named."""


def description(
    name: str,
    experiment_id: str,
    summary: BatchSummary,
    worst: Sequence[LineStats],
    run_id: Callable[[int], str | None],
) -> str:
    """Return about five lines, with no text of a line in them.

    Args:
        name: The batch's.
        experiment_id: Where its runs are.
        summary: Its sums.
        worst: Its lines with the lowest values of the score that is shown first, where it has scores.
        run_id: Gives the run of a line.
    """
    runs = f"#/experiments/{experiment_id}/runs"

    def linked(lines: Sequence[LineStats], tell: Callable[[LineStats], str]) -> str:
        found = [(line, run_id(line.line_number)) for line in lines[:_NAMED]]
        return ", ".join(f"[line {line.line_number}]({runs}/{run}){tell(line)}" for line, run in found if run)

    means = mean_scores(summary)
    scores = [f"{key.removesuffix(f'{VERSION}/mean')} {summary.scores[key]:.4g}" for key in means]
    evaluated = summary.scores.get("lines_evaluated")
    lines = [f"{summary.lines_completed:,} lines completed, {_failures(summary)}"]
    if summary.failed:
        lines[0] += f" ({linked(summary.failed, lambda line: '')})"
    if scores and evaluated:
        lines.append(f"Scores over {evaluated:,.0f} lines: {', '.join(scores)}")
    if worst:
        metric = worst_metric(summary)
        told = linked(worst, lambda line: f" {line.scores[metric]:.4g}")
        lines.append(f"Worst by {metric}: {told}")
    lines.append(
        f"[All batches]({runs}?viewStateShareKey={BATCHES_VIEW}) · "
        f"[Charts]({runs}?viewStateShareKey={CHARTS_VIEW}&compareRunsMode=CHART) · "
        f"[Lines of the newest batch]({runs}?viewStateShareKey={LINES_VIEW}) · "
        f"[Answers side by side]({runs}?viewStateShareKey={ANSWERS_VIEW}) · "
        f"[Batches line by line]({runs}?viewStateShareKey={BATCHES_VIEW}&compareRunsMode=ARTIFACT)"
    )
    lines.append(f"`{command_on('show', name, *_further(summary))}`")
    return "  \n".join(lines)


def worst_metric(summary: BatchSummary) -> str:
    """Return the score that a batch's worst lines are found by, `""` if it has none."""
    scores = (name.removesuffix(f"{VERSION}/mean") for name in mean_scores(summary) if name.endswith(f"{VERSION}/mean"))
    return next((score for score in scores if score not in NO_MERIT), "")


def _failures(summary: BatchSummary) -> str:
    kinds = sorted(summary.failed_by_kind.items(), key=lambda kind: -kind[1])
    named = [f"{count:,} {kind}" for kind, count in kinds[:_NAMED]]
    others = sum(count for _, count in kinds[_NAMED:])
    named += [f"{others:,} others"] if others else []
    return f"{summary.lines_failed:,} failed{': ' if named else ''}{', '.join(named)}"


def _further(summary: BatchSummary) -> list[str]:
    """Return the options of the command that looks further: at what failed, else at the worst lines."""
    if summary.lines_failed:
        return ["--failed"]
    metric = worst_metric(summary)
    return ["--worst", metric] if metric else []
