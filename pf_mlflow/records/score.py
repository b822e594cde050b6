"""One evaluator's verdict on one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pf_mlflow.records import known_fields

__all__ = ["FAIL", "NO", "OVERALL", "PASS", "ROOT_CAUSE", "YES", "Score"]

YES, NO = "yes", "no"
"""The verdicts of most judges."""
OVERALL, ROOT_CAUSE = "overall", "root_cause"
"""Names of what the judges of a line say together: whether it passes, and which judge failed it first."""
PASS, FAIL = "pass", "fail"
"""Values of the score `OVERALL`."""


@dataclass(frozen=True)
class Score:
    """One evaluator's verdict on one line: a value, or why there is none."""

    name: str
    value: float | bool | str | None = None
    rationale: str | None = None
    error: str | None = None
    model: str | None = None
    """The model that judged, where one did; its tokens and seconds are the judgement's, not the line's."""
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached: bool | None = None
    """Whether the verdict was given before, on the very same question, and no model was asked anew."""

    @property
    def is_judged(self) -> bool:
        """Whether a model gave it."""
        return self.model is not None

    @property
    def is_joint(self) -> bool:
        """Whether it is what all judges of the line say together, and no verdict of one of them."""
        return self.is_judged and self.name in (OVERALL, ROOT_CAUSE)

    @property
    def number(self) -> float | None:
        """Its value as a number, yes 1 and no 0; `None` where it has none that is finite."""
        if self.error is not None or self.value is None or isinstance(self.value, str):
            return None
        return float(self.value) if math.isfinite(self.value) else None

    @property
    def text(self) -> str | None:
        """Its value where that is a text."""
        return self.value if self.error is None and isinstance(self.value, str) else None

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of it."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Score:
        """Return what `as_dict` gave."""
        return cls(**known_fields(cls, data))
