"""One evaluator's verdict on one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records import known_fields
from pf_mlflow.records.keys import distinct_key, readable

__all__ = ["FAIL", "NO", "OVERALL", "PASS", "ROOT_CAUSE", "YES", "Score", "plain_value", "read_scores"]

YES, NO = "yes", "no"
"""The verdicts of most judges."""
OVERALL, ROOT_CAUSE = "overall", "root_cause"
"""Names of what the judges of a line say together: whether it passes, and which judge failed it first."""
PASS, FAIL = "pass", "fail"
"""Values of the score `OVERALL`."""
_NAME_LIMIT = 180
"""Characters of a name, which is the beginning of keys of 250."""
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("rationale", "error", "model"), str),
    **dict.fromkeys(("seconds", "prompt_tokens", "completion_tokens", "cached_prompt_tokens"), (int, float)),
    "cached": bool,
}
"""What else is known of a score; what is of another kind is left out."""


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
    cached_prompt_tokens: int | None = None
    """Tokens of the prompt that the model's server had from an earlier request."""
    cost: float | None = None
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


def read_scores(value: Any) -> list[Score]:
    """Return scores given as a list of them, each a mapping with a `name`, or as one mapping from names to values.

    Raises:
        BadInput: it is neither.
    """
    if isinstance(value, Mapping):
        value = [{"name": name, "value": given} for name, given in value.items()]
    if not isinstance(value, (list, tuple)):
        raise BadInput(f"Scores are a list or a mapping from names to values, not {type(value).__name__} {value!r}.")
    return [_score(one) for one in value]


def _score(given: Any) -> Score:
    if isinstance(given, Score):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str) or not given["name"]:
        raise BadInput(f"A score is a mapping with a name, and a value or an error, not {given!r}.")
    name, value = distinct_key(given["name"], _NAME_LIMIT), given.get("value")
    known = {key: given[key] for key, kinds in _KINDS.items() if isinstance(given.get(key), kinds)}
    known = {key: readable(one) if isinstance(one, str) else one for key, one in known.items()}
    if value is None:
        return Score(name, **known)
    try:
        return Score(name, plain_value(value), **known)
    except TypeError as error:
        raise BadInput(
            f"The score {given['name']!r} is a number, a bool or a text, not {type(value).__name__}."
        ) from error
    except (ValueError, OverflowError):
        return Score(name, error="its value is no finite number")


def plain_value(value: Any) -> float | bool | str:
    """Return a value as MLflow takes it, a scalar of numpy as the number that it holds.

    Raises:
        TypeError: it is no number, no bool and no text.
        ValueError, OverflowError: it is no finite number.
    """
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return readable(value)
    if not isinstance(value, (Real, Decimal)):
        raise TypeError(f"{type(value).__name__}, not a number, a bool or a text")
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{number}, which is no finite number")
    return number
