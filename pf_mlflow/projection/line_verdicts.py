"""What the judges said of one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pf_mlflow.records import known_fields
from pf_mlflow.records.keys import valid_key
from pf_mlflow.records.score import OVERALL, Score

__all__ = ["LineVerdicts"]


@dataclass(frozen=True)
class LineVerdicts:
    """The verdicts on one line, as `--json` and the spool show them."""

    ratings: Mapping[str, str] = field(default_factory=dict)
    """Words by judge; numbers are scores like others."""
    numeric: int = 0
    """How many verdicts are numbers."""
    judges: tuple[str, ...] = ()
    """All that were asked for."""
    errors: tuple[str, ...] = ()
    """Those that gave no verdict."""
    overall: str | None = None
    tokens: Mapping[str, float] = field(default_factory=dict)
    """`prompt_tokens` and `completion_tokens`, where known."""
    seconds: float = 0.0
    cached: int = 0

    @classmethod
    def of(cls, scores: Iterable[Score]) -> LineVerdicts | None:
        """Return the verdicts among the scores of a line, `None` if no judge was asked."""
        judged = [score for score in scores if score.is_judged]
        verdicts = {valid_key(score.name): score for score in judged if not score.is_joint}
        tokens: Counter[str] = Counter()
        for score in verdicts.values():
            for kind in ("prompt_tokens", "completion_tokens"):
                if (count := getattr(score, kind)) is not None:
                    tokens[kind] += count
        given = cls(
            {name: score.text for name, score in verdicts.items() if score.text is not None},
            sum(score.number is not None for score in verdicts.values()),
            tuple(verdicts),
            tuple(name for name, score in verdicts.items() if score.error is not None),
            next((str(score.value) for score in judged if score.is_joint and score.name == OVERALL), None),
            {kind: float(count) for kind, count in tokens.items()},
            sum(score.seconds or 0.0 for score in verdicts.values()),
            sum(bool(score.cached) for score in verdicts.values()),
        )
        return given if verdicts else None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LineVerdicts:
        """Return what was written as JSON, which has no tuples."""
        return cls(**known_fields(cls, {**data, "judges": tuple(data["judges"]), "errors": tuple(data["errors"])}))
