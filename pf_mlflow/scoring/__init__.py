"""Scores of one line at a time: formulas, metrics of the user's own, judges. Knows neither promptflow nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pf_mlflow.records.score import Score
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.metric import Metric
from pf_mlflow.scoring.registry import chosen_metrics, known_metrics, parse_metrics, register
from pf_mlflow.scoring.sums import ScoreSums

__all__ = [
    "LineFields",
    "Metric",
    "Score",
    "ScoreSums",
    "chosen_metrics",
    "known_metrics",
    "parse_metrics",
    "register",
    "score_line",
]


def score_line(
    fields: LineFields,
    metrics: str | Sequence[str] | None = None,
    folders: Sequence[str | Path] = (),
    judge_model: str = "",
    connection: Any = None,
) -> list[Score]:
    """Return the scores of a line, those of judges last; whatever goes wrong in one is the error of its score.

    Args:
        fields: The line.
        metrics: Names and files, as `parse_metrics` takes them; by default all that the line has the fields for.
        folders: Where files are looked for.
        judge_model: The model of judges, on Azure its deployment; `""` asks none.
        connection: promptflow's OpenAI or Azure OpenAI connection to it. That to the offline model skips all judges.

    Raises:
        BadInput: a metric, a judge, the connection or a setting cannot be used.
    """
    chosen = chosen_metrics(fields, metrics, folders, with_judges=bool(judge_model))
    scores = [metric.score(fields) for metric in chosen if isinstance(metric, Metric)]
    if not judge_model:
        return scores
    from pf_mlflow.scoring.judges.panel import verdicts

    judges = [judge for judge in chosen if not isinstance(judge, Metric)]
    return scores + verdicts(fields, judges, judge_model, connection)
