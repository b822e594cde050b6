"""Finds the scores of a line in what its nodes handed on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records.keys import valid_key
from pf_mlflow.records.line import Span
from pf_mlflow.records.score import Score

__all__ = ["SAVES", "read_scores", "saved_scores"]

SAVES = "save_scores"
"""Name of the function whose output is a line's scores."""
_NAME_LIMIT = 180
"""Characters of a name, which is the beginning of keys of 250."""
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("rationale", "error", "model"), str),
    **dict.fromkeys(("seconds", "prompt_tokens", "completion_tokens"), (int, float)),
    "cached": bool,
}
"""What else is known of a score; what is of another kind is left out."""


def saved_scores(spans: Iterable[Span]) -> tuple[Score, ...]:
    """Return the scores that a line's nodes saved; none from an output that is no such."""
    found: list[Score] = []
    for span in spans:
        if span.name == SAVES and span.has_output:
            try:
                found += read_scores(span.output)
            except BadInput:
                continue
    return tuple(found)


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
    name, value = valid_key(given["name"], _NAME_LIMIT), given.get("value")
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise BadInput(f"The score {given['name']!r} is a number, a bool or a text, not {type(value).__name__}.")
    if isinstance(value, (int, float)) and not _is_finite(value):
        return Score(name, error="its value is no finite number")
    known = {key: given[key] for key, kinds in _KINDS.items() if isinstance(given.get(key), kinds)}
    return Score(name, value, **known)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
