"""One metric's verdict on one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Score"]


@dataclass(frozen=True)
class Score:
    """A value, or else the error that kept it from being given; the rest is known of scores that a model gave.

    `seconds` is how long the model took.
    """

    name: str
    value: float | bool | str | None = None
    rationale: str | None = None
    error: str | None = None
    model: str | None = None
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what is known, for JSON."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Score:
        """Return what `as_dict` wrote; what a newer version has written besides is left out."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in names})
