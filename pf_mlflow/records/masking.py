"""Keeps secrets, and on request all content, out of records before they leave the line's process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pf_mlflow.records.line import LineRecord, Span
from pf_mlflow.records.score import Score

__all__ = ["MASK", "cleaned", "environment_secrets"]

MASK = "**scrubbed**"

_SECRET_NAME = re.compile(
    r"(^|[_\-.])(api[_-]?key|secret|passw(or)?d|(access|auth|refresh|bearer|id)[_-]?token|credentials?)s?$", re.I
)
_SECRET_VARIABLE = re.compile(
    r"(^|_)((API|ACCESS|SECRET|PRIVATE|ACCOUNT|SHARED|SIGNING)_?KEY|TOKEN|SECRET|PASSW(OR)?D|CREDENTIAL)S?$", re.I
)
_KEY_SHAPE = re.compile(r"\bsk-[A-Za-z0-9_\-]{16,}")
_IN_ERRORS = re.compile(
    r"(?i)((?:api[-_ ]?key|authorization|password|secret|token|sig)(?: provided)?[\"']?\s*[:=]\s*[\"']?(?:bearer )?)"
    r"([^\s\"',;&]{8,})"
)
_MIN_LENGTH = 8


def cleaned(record: LineRecord, content: str, known: tuple[str, ...] | None = None) -> LineRecord:
    """Return the record as it may leave the line's process: without secrets, with `content` `none` without text.

    Masked are: values of environment variables with secret names, keys of the `sk-…` shape, inputs whose name says
    that they are secret, and in error texts whatever follows words such as `api key:`.

    Without text every input and output is its size, and an error its type. `known` are `environment_secrets()` found
    before.
    """
    secrets = environment_secrets() if known is None else known
    record = _map_values(record, lambda value: _masked(value, secrets), lambda text: _masked_error(text, secrets))
    if content != "none":
        return record
    record = _map_values(record, _size_of, lambda text: None)
    return replace(
        record,
        spans=tuple(replace(span, name=span.node or "") for span in record.spans),
        scores=tuple(replace(score, rationale=None) for score in record.scores),
    )


def _map_values(record: LineRecord, of_value: Any, of_error: Any) -> LineRecord:
    def mapped(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: MASK if _is_secret_name(name) else of_value(value) for name, value in values.items()}

    def span(one: Span) -> Span:
        output = of_value(one.output) if one.has_output else None
        return replace(one, inputs=mapped(one.inputs), output=output, error=one.error and of_error(one.error))

    def score(one: Score) -> Score:
        value = of_value(one.value) if isinstance(one.value, str) and one.model is None else one.value
        error = None if one.error is None else of_error(one.error) or "not told"
        return replace(one, value=value, error=error, rationale=one.rationale and of_error(one.rationale))

    return replace(
        record,
        inputs=mapped(record.inputs),
        outputs=mapped(record.outputs),
        error=record.error and of_error(record.error),
        spans=tuple(map(span, record.spans)),
        scores=tuple(map(score, record.scores)),
    )


def environment_secrets() -> tuple[str, ...]:
    """Return the values of environment variables with secret names, the longest first."""
    values = (v for k, v in os.environ.items() if _is_secret_variable(k) and len(v) >= _MIN_LENGTH)
    return tuple(sorted(values, key=len, reverse=True))


@lru_cache(maxsize=1024)
def _is_secret_variable(name: str) -> bool:
    return _SECRET_VARIABLE.search(name) is not None


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _masked(value: Any, known: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, MASK)
        return _KEY_SHAPE.sub(MASK, value) if "sk-" in value else value
    if isinstance(value, Mapping):
        return {k: MASK if _is_secret_name(str(k)) else _masked(v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item, known) for item in value]
    return value


def _masked_error(text: str, known: tuple[str, ...]) -> str:
    return _IN_ERRORS.sub(rf"\1{MASK}", str(_masked(text, known)))


def _size_of(value: Any) -> str:
    if isinstance(value, str):
        return f"<{len(value)} characters>"
    if isinstance(value, (Mapping, list, tuple)):
        return f"<{len(value)} items>"
    return f"<{type(value).__name__}>"
