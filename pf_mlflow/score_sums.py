"""Sums scores up over the lines of a batch, in memory that hardly grows: a number per line and metric."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

from pf_mlflow.records import Score
from pf_mlflow.spread import mean, percentile, variance

__all__ = ["VERSION", "ScoreSums"]

VERSION = "/v1"
"""What the name of a score's metric ends with, as those of MLflow's own evaluation do."""
_RATES = {"exact_match"}
"""Scores whose mean also bears their bare name."""


class ScoreSums:
    """The scores of lines, each line added once."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        self._errors: Counter[str] = Counter()
        self.lines = 0
        """Lines with at least one score."""

    @classmethod
    def of(cls, lines: Iterable[Iterable[Score]]) -> ScoreSums:
        """Return the sums of lines."""
        sums = cls()
        for scores in map(list, lines):
            given = {score.name: score.value for score in scores if score.error is None and score.value is not None}
            numbers = {name: float(value) for name, value in given.items() if not isinstance(value, str)}
            sums.add(numbers, [score.name for score in scores if score.error is not None], len(given) - len(numbers))
        return sums

    def add(self, numbers: Mapping[str, float], errors: Iterable[str] = (), others: int = 0) -> None:
        """Count a line: its scores that are numbers, the names of those that failed, how many others it has."""
        self.lines += bool(numbers or others)
        self._errors.update(errors)
        for name, value in numbers.items():
            if math.isfinite(value):
                self._values.setdefault(name, array("d")).append(value)

    def metrics(self) -> dict[str, float]:
        """Return mean, population variance, p90 and count of each score, and how often it failed, by metric's name.

        The mean of `exact_match`, a share of lines, also stands under its bare name. What is no float is left out.
        """
        told: dict[str, float] = {}
        for name, values in sorted(self._values.items()):
            key = f"{name}{VERSION}"
            told |= {f"{key}/mean": mean(values), f"{key}/variance": variance(values)}
            told |= {f"{key}/p90": percentile(sorted(values), 90), f"{key}/count": float(len(values))}
            if name in _RATES:
                told[key] = told[f"{key}/mean"]
        told |= {f"{name}{VERSION}/error_count": float(count) for name, count in sorted(self._errors.items())}
        return {key: value for key, value in told.items() if math.isfinite(value)}
