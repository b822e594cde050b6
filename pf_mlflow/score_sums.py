"""Sums scores up over the lines of a batch, in memory that hardly grows: a number per line and metric."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

from pf_mlflow.spread import mean, percentile, variance

__all__ = ["ScoreSums", "VERSION"]

VERSION = "/v1"
"""What the name of a score's metric ends with, as those of MLflow's own evaluation do."""
_RATES = {"exact_match"}
"""Scores whose mean also bears their bare name."""


class ScoreSums:
    """The scores of lines, each added once."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        self._errors: Counter[str] = Counter()
        self.lines = 0
        """Lines with at least one score."""

    def add(self, numbers: Mapping[str, float], errors: Iterable[str] = (), others: int = 0) -> None:
        """Count a line: its scores that are numbers, the names of those that failed, how many others it has."""
        self.lines += bool(numbers or others)
        self._errors.update(errors)
        for name, value in numbers.items():
            self._values.setdefault(name, array("d")).append(value)

    def metrics(self) -> dict[str, float]:
        """Return mean, population variance, p90 and count of each score, and how often it failed, by metric's name."""
        told: dict[str, float] = {}
        for name, values in sorted(self._values.items()):
            key = f"{name}{VERSION}"
            told |= {f"{key}/mean": mean(values), f"{key}/variance": variance(values)}
            told |= {f"{key}/p90": percentile(sorted(values), 90), f"{key}/count": float(len(values))}
            if name in _RATES:
                told[key] = told[f"{key}/mean"]
        return told | {f"{name}{VERSION}/error_count": float(n) for name, n in sorted(self._errors.items())}
