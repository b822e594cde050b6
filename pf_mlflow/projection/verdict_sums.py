"""Sums judges' verdicts up over the lines of a batch."""

from __future__ import annotations

from collections import Counter

from pf_mlflow.projection.verdict_payload import LineVerdicts
from pf_mlflow.records.keys import valid_key

__all__ = ["VerdictSums"]

_YES, _NO = "yes", "no"
_PASS = "pass"


class VerdictSums:
    """The verdicts on lines, each line added once."""

    def __init__(self) -> None:
        self._ratings: dict[str, Counter[str]] = {}
        self._errors: Counter[str] = Counter()
        self._overall: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._seconds = 0.0
        self._verdicts = self._cached = 0

    def add(self, line: LineVerdicts) -> None:
        """Count a line."""
        for judge in line.judges:
            self._ratings.setdefault(judge, Counter())
        for judge, rating in line.ratings.items():
            self._ratings[judge][rating] += 1
        self._errors.update(line.errors)
        if line.overall is not None:
            self._overall[line.overall] += 1
        for kind, count in line.tokens.items():
            self._tokens[kind] += int(count)
        self._seconds += line.seconds
        self._verdicts += len(line.ratings) + line.numeric
        self._cached += line.cached

    def metrics(self) -> dict[str, float]:
        """Return the sums by metric's name; nothing where there was no judge.

        `percentage` is a share from 0 to 1, as Databricks has it: of `yes` among the verdicts of a judge, errors not
        counted; `percentage/<word>` that of any other word. `overall/pass_rate` is that of lines that pass among those
        that pass or fail.
        """
        if not self._ratings:
            return {}
        told: dict[str, float] = {}
        for judge, ratings in sorted(self._ratings.items()):
            told |= _shares(f"response/llm_judged/{judge}", ratings)
            told[f"response/llm_judged/{judge}/error_count"] = float(self._errors[judge])
        if lines := self._overall.total():
            told["overall/pass_rate"] = self._overall[_PASS] / lines
        told |= {"judge/verdicts": float(self._verdicts), "judge/cached": float(self._cached)}
        told |= {f"judge/{kind}": float(count) for kind, count in sorted(self._tokens.items())}
        if self._tokens:
            told["judge/total_tokens"] = float(self._tokens.total())
        return told | {"judge/seconds": self._seconds}


def _shares(name: str, ratings: Counter[str]) -> dict[str, float]:
    count = ratings.total()
    told = {f"{name}/percentage": ratings[_YES] / count} if ratings[_YES] or ratings[_NO] else {}
    others = sorted(word for word in ratings if word not in (_YES, _NO))
    return told | {f"{name}/percentage/{valid_key(word)}": ratings[word] / count for word in others}
