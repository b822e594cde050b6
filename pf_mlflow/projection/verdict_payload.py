"""What judges' verdicts look like in an MLflow run, under the names that Databricks gives them. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pf_mlflow.projection.line_payload import VERSION
from pf_mlflow.records.keys import valid_key
from pf_mlflow.records.score import Score
from pf_mlflow.tracking.run_payload import RunPayload

__all__ = ["OVERALL", "LineVerdicts", "add_verdict", "is_verdict_key", "verdicts_of", "verdicts_of_scores"]

_JUDGED = "response/llm_judged/"
_ASSESSMENT = "response/overall_assessment/"
OVERALL = {"overall": f"{_ASSESSMENT}rating", "root_cause": f"{_ASSESSMENT}root_cause"}
"""Tags of what is said of a line by all judges together, by the score's name."""
_OWN = (_JUDGED, _ASSESSMENT, "overall/pass_rate", "judge/")


def add_verdict(payload: RunPayload, score: Score) -> None:
    """Add a judge's score to what a line's run holds."""
    if score.name in OVERALL:
        payload.add_tag(OVERALL[score.name], str(score.value))
        if score.rationale is not None:
            payload.add_tag(f"{_ASSESSMENT}rationale", score.rationale)
        return
    judge = valid_key(score.name)
    tags = {"error": score.error, "rating": _rating(score), "rationale": score.rationale, "model": score.model}
    if score.cached:
        tags["cached"] = "true"
    for kind, text in tags.items():
        if text is not None:
            payload.add_tag(f"{_JUDGED}{judge}/{kind}", text)
    if score.error is None and isinstance(score.value, (int, float)):
        payload.metrics[f"{judge}{VERSION}"] = float(score.value)
    for kind in ("prompt_tokens", "completion_tokens", "seconds"):
        if (number := getattr(score, kind)) is not None:
            payload.metrics[f"{_JUDGED}{judge}/{kind}"] = float(number)


def _rating(score: Score) -> str | None:
    if score.error is not None or score.value is None:
        return None
    return score.value if isinstance(score.value, str) else f"{score.value:g}"


def is_verdict_key(key: str) -> bool:
    """Say whether a metric or a tag of a run is of judges."""
    return key.startswith(_OWN)


@dataclass
class LineVerdicts:
    """What judges said of one line."""

    ratings: dict[str, str] = field(default_factory=dict)
    """Words by judge; numbers are scores like others."""
    numeric: int = 0
    """How many verdicts are numbers."""
    judges: tuple[str, ...] = ()
    """All that were asked for."""
    errors: tuple[str, ...] = ()
    """Those that gave no verdict."""
    overall: str | None = None
    tokens: dict[str, float] = field(default_factory=dict)
    """`prompt_tokens` and `completion_tokens`, where known."""
    seconds: float = 0.0
    cached: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LineVerdicts:
        """Return what was written as JSON, which has no tuples."""
        return cls(**{**data, "judges": tuple(data["judges"]), "errors": tuple(data["errors"])})


def verdicts_of(payload: RunPayload) -> LineVerdicts:
    """Return the verdicts that a line's run shows."""
    told = LineVerdicts(overall=payload.tags.get(OVERALL["overall"]))
    parts = [(key, *key[len(_JUDGED) :].rpartition("/")[::2]) for key in payload.tags if key.startswith(_JUDGED)]
    told.judges = tuple(dict.fromkeys(judge for _, judge, _ in parts))
    told.errors = tuple(judge for _, judge, kind in parts if kind == "error")
    told.cached = sum(kind == "cached" for *_, kind in parts)
    ratings = {judge: payload.tags[key] for key, judge, kind in parts if kind == "rating"}
    told.ratings = {judge: rating for judge, rating in ratings.items() if not _is_number(payload, judge)}
    told.numeric = len(ratings) - len(told.ratings)
    for key, number in payload.metrics.items():
        if key.startswith(_JUDGED) and number == number:
            kind = key.rpartition("/")[2]
            if kind == "seconds":
                told.seconds += number
            else:
                told.tokens[kind] = told.tokens.get(kind, 0.0) + number
    return told


def verdicts_of_scores(scores: Iterable[Score]) -> LineVerdicts:
    """Return the verdicts among scores, as the run of their line shows them."""
    payload = RunPayload("", 0, 0)
    for score in scores:
        if score.model is not None:
            add_verdict(payload, score)
    return verdicts_of(payload)


def _is_number(payload: RunPayload, judge: str) -> bool:
    number = payload.metrics.get(f"{judge}{VERSION}")
    return number is not None and number == number
