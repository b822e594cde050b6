"""The scores of many lines in a few numbers, named as MLflow's own evaluations name them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

from pf_mlflow.scoring.score import Score
from pf_mlflow.summary import percentile

__all__ = ["ScoreTally", "aggregate"]


class ScoreTally:
    """Sums scores up line by line, in memory of a number per line and metric."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        self._errors: dict[str, int] = {}

    def add(self, scores: Iterable[Score]) -> None:
        """Count the scores of a line; texts cannot be averaged and are left out."""
        for score in scores:
            if score.error is not None:
                self._errors[score.name] = self._errors.get(score.name, 0) + 1
            elif isinstance(score.value, (bool, int, float)) and math.isfinite(score.value):
                self._values.setdefault(score.name, array("d")).append(score.value)

    def metrics(self) -> dict[str, float]:
        """Return mean, population variance, 90th percentile and count of each metric, and its errors if any.

        The mean of `exact_match`, a share of lines, is also told as `exact_match/v1`. What is too large for a float
        is left out.
        """
        told = {f"{name}/v1/{kind}": number for name in self._values for kind, number in self._spread(name).items()}
        if "exact_match" in self._values:
            told["exact_match/v1"] = told["exact_match/v1/mean"]
        told |= {f"{name}/v1/error_count": float(count) for name, count in self._errors.items()}
        return {name: number for name, number in told.items() if math.isfinite(number)}

    def _spread(self, name: str) -> dict[str, float]:
        values = self._values[name]
        mean = _sum(values) / len(values)
        return {
            "mean": mean,
            "variance": _sum([(value - mean) * (value - mean) for value in values]) / len(values),
            "p90": percentile(sorted(values), 90),
            "count": float(len(values)),
        }


def aggregate(rows: Iterable[Sequence[Score]]) -> dict[str, float]:
    """Return the metrics of a batch from the scores of its lines."""
    tally = ScoreTally()
    for scores in rows:
        tally.add(scores)
    return tally.metrics()


def _sum(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf
