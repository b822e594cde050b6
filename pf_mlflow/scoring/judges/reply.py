"""Reads a judge's reply: JSON alone, in a fence or among prose; whatever else it says is no verdict."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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
_STATED = re.compile(r'"result"\s*:\s*"?([^"\s,}]+)', re.I)
"""A verdict where no JSON can be read."""
_OWN_KEY = re.compile(r'"(result|rationale)"', re.I)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I)
_OUT_OF = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_SHOWN = 200


class NoVerdict(Exception):
    """A reply holds no verdict; the message says what is wrong with it."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says."""

    value: str | float
    rationale: str | None = None


class _Object(dict[str, Any]):
    """A JSON object that keeps what all its keys say, also those that come twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def all(self, key: str) -> list[Any]:
        """Return what a key says, in whatever case it is written."""
        return [value for name, value in self._pairs if name.strip().lower() == key]


_JSON = json.JSONDecoder(strict=False, object_pairs_hook=_Object)


@dataclass
class _Reply:
    """What a reply holds after its thoughts."""

    objects: list[_Object] = field(default_factory=list)
    """JSON objects that are not inside of one another."""
    rest: str = ""
    """The text around them."""
    breaks_off: bool = False
    """Whether it ends within an object like those that were asked for."""

    def stated(self) -> Iterator[tuple[Any, _Object]]:
        """Yield each verdict with the object that it stands in."""
        for one in self.objects:
            yield from ((said, one) for said in one.all("result"))


def read_verdict(text: str, values: tuple[str, ...] | tuple[float, ...]) -> Verdict:
    """Return the verdict that a reply holds.

    Args:
        text: The reply.
        values: The verdicts allowed. Words may differ in case and in quotes around them, numbers may be written as text
            or as `4/5` where 5 is the highest; `true` and `false` are yes and no.

    Raises:
        NoVerdict: it holds no verdict, one that is not allowed, several that differ, or breaks off in a second one.
    """
    reply = _read(text)
    verdicts = {_value(said, values): one for said, one in reply.stated()}
    if not verdicts:
        raise NoVerdict(f"its reply holds no JSON with a result: {_short(text)}")
    if reply.breaks_off:
        raise NoVerdict(f"its reply breaks off after a first verdict: {_short(text)}")
    told = [*verdicts, *_stated_otherwise(reply.rest, values)]
    if len(set(told)) > 1:
        raise NoVerdict(f"its reply holds several verdicts: {', '.join(map(str, dict.fromkeys(told)))}")
    value, one = verdicts.popitem()
    rationale = next(iter(one.all("rationale")), None)
    return Verdict(value, readable(rationale).strip() or None if rationale is not None else None)


def _stated_otherwise(rest: str, values: tuple[str, ...] | tuple[float, ...]) -> Iterator[str | float]:
    """Yield the verdicts allowed that stand in objects that are no JSON: no rationale, but a contradiction maybe."""
    for stated in _STATED.finditer(rest):
        with suppress(NoVerdict):
            yield _value(stated[1], values)


def _read(text: str) -> _Reply:
    reply, tries, at, read = _Reply(), 0, 0, 0
    while (mark := _MARK.search(text, at)) and tries < _MOST_TRIES:
        at = mark.end()
        if mark["end"] is not None:
            reply = _Reply()  # where only the end of thoughts is marked, they began with the text
            at = read = at if mark["end"] else _end_of_thoughts(text, at)
            continue
        try:
            one, at = _JSON.raw_decode(text, mark.start())
        except (ValueError, RecursionError) as error:
            tries += 1
            reply.breaks_off |= _is_cut_off(text, mark.start(), error)
        else:
            reply.objects.append(one)
            reply.rest += text[read : mark.start()]
            read = at
    reply.rest += text[read:]
    return reply


def _is_cut_off(text: str, start: int, error: Exception) -> bool:
    """Tell whether an object that cannot be read ends with the text, and is of those that were asked for."""
    if not isinstance(error, json.JSONDecodeError) or not _OWN_KEY.search(text, start):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())


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
    word = " ".join(unicodedata.normalize("NFC", value).lower().split())
    bare = word.strip("".join(set(_QUOTES) - set(used)) + " ")
    return word, bare, {"true": YES, "false": NO}.get(bare, bare)


def _number(value: Any, highest: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        share = _OUT_OF.fullmatch(value.strip())
        value = share[1] if share and float(share[2]) == highest else value.strip()
        if not _NUMBER.fullmatch(value):
            return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return readable(repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"))
