"""Sums scores up over the lines of a batch, in memory that hardly grows: a number per line and metric."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

from pf_mlflow.projection.line_payload import VERSION
from pf_mlflow.projection.verdict_payload import OVERALL, LineVerdicts, verdicts_of_scores
from pf_mlflow.projection.verdict_sums import VerdictSums
from pf_mlflow.records.score import Score
from pf_mlflow.records.statistics import mean, percentile, variance

__all__ = ["VERSION", "ScoreSums"]

_RATES = {"exact_match"}
"""Scores whose mean also bears their bare name."""


class ScoreSums:
    """The scores of lines, each line added once."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        self._errors: Counter[str] = Counter()
        self._verdicts = VerdictSums()
        self.lines = 0
        """Lines with at least one score."""

    @classmethod
    def of(cls, lines: Iterable[Iterable[Score]]) -> ScoreSums:
        """Return the sums of lines."""
        sums = cls()
        for scores in map(list, lines):
            own = [score for score in scores if score.model is None or score.name not in OVERALL]
            given = {score.name: score.value for score in own if score.error is None and score.value is not None}
            numbers = {name: float(value) for name, value in given.items() if not isinstance(value, str)}
            errors = [score.name for score in own if score.error is not None and score.model is None]
            sums.add(numbers, errors, len(given) - len(numbers), verdicts_of_scores(scores))
        return sums

    def add(
        self,
        numbers: Mapping[str, float],
        errors: Iterable[str] = (),
        others: int = 0,
        verdicts: LineVerdicts | None = None,
    ) -> None:
        """Count a line: its scores that are numbers, the names of those that failed, how many others, its verdicts."""
        self.lines += bool(numbers or others)
        if verdicts:
            self._verdicts.add(verdicts)
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
        told |= self._verdicts.metrics()
        return {key: value for key, value in told.items() if math.isfinite(value)}
