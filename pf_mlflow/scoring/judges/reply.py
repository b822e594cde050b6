"""Reads a judge's reply: JSON alone, in a fence or among prose; whatever else it says is no verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pf_mlflow.records.score import NO, YES

__all__ = ["NoVerdict", "Verdict", "read_verdict"]

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.I)
_OUT_OF = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_SHOWN = 200
_JSON = json.JSONDecoder(strict=False)


class NoVerdict(Exception):
    """A reply holds no verdict; the message says what is wrong with it."""


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
        NoVerdict: it holds no verdict, one that is not allowed, or several that differ.
    """
    found = [reply for reply in _objects(_THOUGHTS.sub("", text)) if "result" in reply]
    if not found:
        raise NoVerdict(f"its reply holds no JSON with a result: {_short(text)}")
    verdicts = {_value(reply["result"], values): reply for reply in found}
    if len(verdicts) > 1:
        raise NoVerdict(f"its reply holds several verdicts: {', '.join(map(str, verdicts))}")
    value, reply = verdicts.popitem()
    rationale = reply.get("rationale")
    return Verdict(value, str(rationale).strip() or None if rationale is not None else None)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text that are not inside of one another."""
    at = text.find("{")
    while at >= 0:
        try:
            reply, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield reply
        at = text.find("{", end)


def _value(value: Any, values: tuple[str, ...] | tuple[float, ...]) -> str | float:
    is_word = isinstance(values[0], str)
    meant = _words(value) if is_word else (_number(value, max(map(float, values))),)
    for allowed in values:
        if allowed in meant:
            return allowed
    raise NoVerdict(f"its verdict is {_short(value)}, which is none of {', '.join(map(str, values))}")


def _words(value: Any) -> tuple[str, ...]:
    """Return the words that a verdict may be meant as: as it is, without marks around it, `true` as yes."""
    if isinstance(value, bool):
        return (YES if value else NO,)
    if not isinstance(value, str):
        return ()
    word = " ".join(value.lower().split())
    bare = re.sub(r"^[\W_]+|[\W_]+$", "", word)
    return word, bare, {"true": YES, "false": NO}.get(bare, bare)


def _number(value: Any, highest: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        share = _OUT_OF.fullmatch(value.strip())
        value = share[1] if share and float(share[2]) == highest else value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
