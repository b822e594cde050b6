"""Reads a judge's reply: JSON alone, in a fence or among prose; whatever else it says is no verdict."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pf_mlflow.records.keys import readable
from pf_mlflow.records.score import NO, YES

__all__ = ["NoVerdict", "Verdict", "read_verdict"]

_MARK = re.compile(r"""\{(?=\s*["}])|<(?P<end>/?)think(?:ing)?>""", re.I)
"""Where an object with keys may begin, or thoughts begin or end."""
_MOST_TRIES = 1_000
"""How many objects that are none a reply may hold: each costs the time to read all that follows."""
_QUOTES = "*_~`'\"“”‘’«»„‚‹›「」『』.,:;!?¡¿。、！？()[]{}<>"
"""What may stand around a word without being of it; `A-`, `C#` and `50%` are other words than `A`, `C` and `50`."""
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
        values: The verdicts allowed. Words may differ in case and in quotes around them, numbers may be written as text
            or as `4/5` where 5 is the highest; `true` and `false` are yes and no.

    Raises:
        NoVerdict: it holds no verdict, one that is not allowed, or several that differ.
    """
    found = [reply for reply in _objects(text) if "result" in reply]
    if not found:
        raise NoVerdict(f"its reply holds no JSON with a result: {_short(text)}")
    verdicts = {_value(reply["result"], values): reply for reply in found}
    if len(verdicts) > 1:
        raise NoVerdict(f"its reply holds several verdicts: {', '.join(map(str, verdicts))}")
    value, reply = verdicts.popitem()
    rationale = reply.get("rationale")
    return Verdict(value, readable(rationale).strip() or None if rationale is not None else None)


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a text that are not inside of one another, nor in thoughts before the reply."""
    found: list[dict[str, Any]] = []
    tries, at = 0, 0
    while (mark := _MARK.search(text, at)) and tries < _MOST_TRIES:
        at = mark.end()
        if mark["end"] is not None:
            found = []  # where only the end of thoughts is marked, they began with the text
            if not mark["end"] and (at := _end_of_thoughts(text, at)) == len(text):
                break
            continue
        try:
            reply, at = _JSON.raw_decode(text, mark.start())
            found.append(reply)
        except (ValueError, RecursionError):
            tries += 1
    return found


def _end_of_thoughts(text: str, at: int) -> int:
    return next((mark.end() for mark in _MARK.finditer(text, at) if mark["end"]), len(text))


def _value(value: Any, values: tuple[str, ...] | tuple[float, ...]) -> str | float:
    is_word = isinstance(values[0], str)
    meant = _words(value, "".join(map(str, values))) if is_word else (_number(value, max(map(float, values))),)
    for one in meant:
        for allowed in values:
            if one == allowed:
                return allowed
    raise NoVerdict(f"its verdict is {_short(value)}, which is none of {', '.join(map(str, values))}")


def _words(value: Any, used: str) -> tuple[str, ...]:
    """Return the words that a verdict may be meant as, the likeliest first: as it is, without quotes, `true` as yes.

    Args:
        value: The verdict.
        used: The characters of all words allowed, none of which is a quote.
    """
    if isinstance(value, bool):
        return str(value).lower(), YES if value else NO
    if not isinstance(value, str):
        return ()
    word = " ".join(value.lower().split())
    bare = word.strip("".join(set(_QUOTES) - set(used)) + " ")
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
    return readable(repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"))
