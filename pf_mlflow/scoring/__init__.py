"""Scores of one line at a time: formulas, and metrics of the user's own. Knows neither promptflow nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    fields: LineFields, metrics: str | Sequence[str] | None = None, folders: Sequence[str | Path] = ()
) -> list[Score]:
    """Return the scores of a line; whatever goes wrong in a metric is the error of its score.

    Args:
        fields: The line.
        metrics: Names and files, as `parse_metrics` takes them; by default all that the line has the fields for.
        folders: Where files are looked for.

    Raises:
        BadInput: a metric is unknown, or its file cannot be loaded.
    """
    return [metric.score(fields) for metric in chosen_metrics(fields, parse_metrics(metrics), folders)]
