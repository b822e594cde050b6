"""Reads a judge's reply: JSON alone, in a fence or among prose; whatever else it says is no verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pf_mlflow.scoring.judges.judge import NO, YES

__all__ = ["Nonsense", "Verdict", "read_verdict"]

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.I)
_OUT_OF = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_SHOWN = 200
_JSON = json.JSONDecoder(strict=False)


class Nonsense(Exception):
    """A reply that is no verdict; the message says what is wrong with it."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says."""

    value: str | float
    rationale: str | None = None


def read_verdict(text: str, values: tuple[str, ...] | tuple[float, ...]) -> Verdict:
    """Return the verdict that a reply holds.

    Args:
        text: The reply.
        values: The verdicts allowed. Words may differ in case and marks around them, numbers may be written as text
            or as `4/5` where 5 is the highest; `true` and `false` are yes and no.

    Raises:
        Nonsense: it holds no verdict, one that is not allowed, or several that differ.
    """
    found = [told for told in _objects(_THOUGHTS.sub("", text)) if "result" in told]
    if not found:
        raise Nonsense(f"its reply holds no JSON with a result: {_short(text)}")
    verdicts = {_value(told["result"], values): told for told in found}
    if len(verdicts) > 1:
        raise Nonsense(f"its reply holds several verdicts: {', '.join(map(str, verdicts))}")
    value, told = verdicts.popitem()
    rationale = told.get("rationale")
    return Verdict(value, str(rationale).strip() or None if rationale is not None else None)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text that are not inside of one another."""
    at = text.find("{")
    while at >= 0:
        try:
            told, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield told
        at = text.find("{", end)


def _value(told: Any, values: tuple[str, ...] | tuple[float, ...]) -> str | float:
    is_word = isinstance(values[0], str)
    given = _words(told) if is_word else (_number(told, max(map(float, values))),)
    for value in values:
        if value in given:
            return value
    raise Nonsense(f"its verdict is {_short(told)}, which is none of {', '.join(map(str, values))}")


def _words(told: Any) -> tuple[str, ...]:
    """Return the words that a verdict may be meant as: as it is, without marks around it, `true` as yes."""
    if isinstance(told, bool):
        return (YES if told else NO,)
    if not isinstance(told, str):
        return ()
    word = " ".join(told.lower().split())
    bare = re.sub(r"^[\W_]+|[\W_]+$", "", word)
    return word, bare, {"true": YES, "false": NO}.get(bare, bare)


def _number(told: Any, highest: float) -> float | None:
    if isinstance(told, bool) or not isinstance(told, (int, float, str)):
        return None
    if isinstance(told, str):
        share = _OUT_OF.fullmatch(told.strip())
        told = share[1] if share and float(share[2]) == highest else told
    try:
        return float(told)
    except (ValueError, OverflowError):
        return None


def _short(told: Any) -> str:
    text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
