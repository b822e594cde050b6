"""Sums over the scores of a batch's lines, in memory that hardly grows: a number per line and metric."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable

from pf_mlflow.records.keys import distinct_key, valid_key
from pf_mlflow.records.score import NO, OVERALL, PASS, YES, Score
from pf_mlflow.records.statistics import mean, percentile, variance

__all__ = ["JUDGED", "VERSION", "ScoreSums", "evaluated", "is_sum"]

VERSION = "/v1"
"""End of the name of a score's metric, as those of MLflow's own evaluation have it."""
JUDGED = "response/llm_judged/"
"""Beginning of the names of what a judge said, as Databricks has it."""
_RATES = {"exact_match"}
"""Scores whose mean also bears their bare name."""


class ScoreSums:
    """The scores of lines, each line added once."""

    def __init__(self) -> None:
        self.lines = 0
        """Lines with at least one score."""
        self._values: dict[str, array[float]] = {}
        self._texts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._judges = _JudgeSums()

    @classmethod
    def of(cls, lines: Iterable[Iterable[Score]]) -> ScoreSums:
        """Return the sums of lines."""
        sums = cls()
        for scores in lines:
            sums.add(scores)
        return sums

    def add(self, scores: Iterable[Score]) -> None:
        """Count a line; of several scores of one name the last counts, as its run shows it."""
        by_name = {(valid_key(score.name), score.is_judged): score for score in scores}
        has_value = [self._add(name, score) for (name, _), score in by_name.items()]
        self.lines += any(has_value)

    def _add(self, name: str, score: Score) -> bool:
        """Count a score, and return whether it has a value of its own."""
        if score.is_joint:
            self._judges.add_joint(score)
            return False
        if score.is_judged:
            self._judges.add(name, score)
        elif score.error is not None:
            self._errors[name] += 1
        number = score.number
        if number is not None:
            self._values.setdefault(name, array("d")).append(number)
        elif score.text is not None and not score.is_judged:
            self._texts[name] += 1
        return number is not None or score.text is not None

    def metrics(self) -> dict[str, float]:
        """Return mean, population variance, p90 and count of each score, and how often it failed, by metric's name.

        Of texts there is the count alone. The mean of `exact_match`, a share of lines, also stands under its bare name.
        What is no float is left out.
        """
        sums: dict[str, float] = {}
        for name, values in sorted(self._values.items()):
            key = f"{name}{VERSION}"
            sums |= {f"{key}/mean": mean(values), f"{key}/variance": variance(values)}
            sums |= {f"{key}/p90": percentile(sorted(values), 90), f"{key}/count": float(len(values))}
            if name in _RATES:
                sums[key] = sums[f"{key}/mean"]
        for name, count in sorted(self._texts.items()):
            sums[f"{name}{VERSION}/count"] = sums.get(f"{name}{VERSION}/count", 0.0) + count
        sums |= {f"{name}{VERSION}/error_count": float(count) for name, count in sorted(self._errors.items())}
        sums |= self._judges.metrics()
        return {key: value for key, value in sums.items() if math.isfinite(value)}


class _JudgeSums:
    """What judges said of lines, and what it took."""

    def __init__(self) -> None:
        self._words: dict[str, Counter[str]] = {}
        """How often each judge said each word."""
        self._errors: Counter[str] = Counter()
        self._overall: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._seconds = 0.0
        self._cost: float | None = None
        self._verdicts = self._cached = 0

    def add(self, judge: str, score: Score) -> None:
        words = self._words.setdefault(judge, Counter())
        self._errors[judge] += score.error is not None
        self._verdicts += score.text is not None or score.number is not None
        self._cached += bool(score.cached)
        self._seconds += score.seconds or 0.0
        if score.cost is not None:
            self._cost = (self._cost or 0.0) + score.cost
        if score.text is not None:
            words[score.text] += 1
        for kind in ("prompt_tokens", "completion_tokens"):
            if (count := getattr(score, kind)) is not None:
                self._tokens[kind] += int(count)

    def add_joint(self, score: Score) -> None:
        if score.name == OVERALL:
            self._overall[str(score.value)] += 1

    def metrics(self) -> dict[str, float]:
        """Return the sums by metric's name; nothing where there was no judge.

        `percentage` is a share from 0 to 1, as Databricks has it: of `yes` among the verdicts of a judge, errors not
        counted; `percentage/<word>` that of any other word. `overall/pass_rate` is that of lines that pass among those
        that pass or fail.
        """
        if not self._words:
            return {}
        sums: dict[str, float] = {}
        for judge, words in sorted(self._words.items()):
            sums |= _shares(f"{JUDGED}{judge}", words)
            sums[f"{JUDGED}{judge}/error_count"] = float(self._errors[judge])
        if lines := self._overall.total():
            sums["overall/pass_rate"] = self._overall[PASS] / lines
        sums |= {"judge/verdicts": float(self._verdicts), "judge/cached": float(self._cached)}
        sums |= {f"judge/{kind}": float(count) for kind, count in sorted(self._tokens.items())}
        if self._tokens:
            sums["judge/total_tokens"] = float(self._tokens.total())
        if self._cost is not None:
            sums["judge/cost"] = self._cost
        return sums | {"judge/seconds": self._seconds}


def _shares(name: str, words: Counter[str]) -> dict[str, float]:
    count = words.total()
    shares = {f"{name}/percentage": words[YES] / count} if words[YES] or words[NO] else {}
    others = sorted(word for word in words if word not in (YES, NO))
    return shares | {f"{name}/percentage/{distinct_key(word)}": words[word] / count for word in others}


def is_sum(name: str) -> bool:
    """Tell whether a metric bears a name that sums of scores bear, and over how many lines they are."""
    kinds = (JUDGED, "judge/", "overall/")
    return f"{VERSION}/" in f"{name}/" or name.startswith(kinds) or name in evaluated(0, 0)


def evaluated(lines_total: int, lines_evaluated: int) -> dict[str, float]:
    """Return the metrics that say over how many lines an evaluation was."""
    return {
        "lines_evaluated": float(lines_evaluated),
        "lines_not_evaluated": float(lines_total - lines_evaluated),
    }
