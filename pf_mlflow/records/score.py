"""One evaluator's verdict on one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pf_mlflow.records.json_fields import known_fields

__all__ = ["Score"]


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

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of it."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Score:
        """Return what `as_dict` gave."""
        return cls(**known_fields(cls, data))
