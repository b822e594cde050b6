"""What masking does to texts written before a look at its rules: `python -m benchmarks.unseen [--show]`.

The texts are templates in `unseen/`, filled from a seed: no literal in them is anybody's key.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

from benchmarks.masking import is_missed
from pf_mlflow.records.masking import Secrets

__all__ = ["Labelled", "missed", "ordinary", "secrets", "touched"]

FOLDER = Path(__file__).with_name("unseen")
SEED = 20261125
URL_SAFE = string.ascii_letters + string.digits + "-_"
ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "b": string.ascii_letters + string.digits + "+/",
    "d": string.digits,
    "h": "0123456789abcdef",
    "H": "0123456789ABCDEF",
    "l": string.ascii_lowercase + string.digits,
    "p": string.ascii_letters + string.digits + "!#$%&()*+-=@^_~",
    "u": string.ascii_uppercase + string.digits,
    "v": string.ascii_uppercase + "234567",
    "w": URL_SAFE,
    "z": string.ascii_letters,
}


class Labelled(NamedTuple):
    """A text, its kind, and the secret in it, which is empty in an ordinary text."""

    kind: str
    text: str
    secret: str = ""


def secrets(name: str = "secrets") -> list[Labelled]:
    """The texts of `unseen/NAME.txt`, each with one marked secret."""
    return [Labelled(kind, *_unmarked(text)) for kind, text in _filled(name)]


def ordinary(name: str = "ordinary") -> list[Labelled]:
    """The texts of `unseen/NAME.txt`, in which nothing is secret."""
    return [Labelled(kind, text) for kind, text in _filled(name)]


def missed(name: str) -> list[str]:
    """The texts whose secret can still be read after masking, without any variable or connection known."""
    masking = Secrets()
    return [text for _, text, secret in secrets(name) if is_missed(secret, masking.masked(text))]


def touched(name: str) -> list[str]:
    """The ordinary texts that masking changes."""
    masking = Secrets()
    return [text for _, text, _ in ordinary(name) if masking.masked(text) != text]


def _filled(name: str) -> list[tuple[str, str]]:
    blocks = re.split(r"(?m)^%% ", (FOLDER / f"{name}.txt").read_text(encoding="utf-8"))[1:]
    dice = random.Random(f"{SEED} {name}")
    return [(kind, _fill(text.rstrip("\n"), dice)) for kind, text in (block.split("\n", 1) for block in blocks)]


def _unmarked(text: str) -> tuple[str, str]:
    before, secret, after = re.split("[«»]", text)
    return before + secret + after, secret


def _fill(text: str, dice: random.Random) -> str:
    """Replaces each `‹name length›`, the innermost first."""
    while (filled := re.sub("‹([^‹›]*)›", lambda blank: _value(blank[1], dice), text)) != text:
        text = filled
    return text


def _value(blank: str, dice: random.Random) -> str:
    if blank.startswith("64 "):
        return base64.b64encode(blank[3:].encode()).decode()
    if blank == "id":
        return str(uuid.UUID(int=dice.getrandbits(128), version=4))
    if blank == "jwt":
        claims = [{"alg": "HS256", "typ": "JWT"}, {"sub": _drawn("a", 24, dice)}]
        return ".".join([*map(_segment, claims), _drawn("w", 43, dice)])
    if blank.startswith("pem"):
        lines, joint = (blank[4:], r"\n") if blank.startswith("pemj") else (blank[3:], "\n")
        return joint.join(_drawn("b", 64, dice) for _ in range(int(lines)))
    return _drawn(blank[0], int(blank[1:]), dice)


def _segment(claims: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def _drawn(alphabet: str, length: int, dice: random.Random) -> str:
    return "".join(dice.choices(ALPHABETS[alphabet], k=length))


if __name__ == "__main__":
    for name in ("", "_2", "_3"):
        left, changed = missed(f"secrets{name}"), touched(f"ordinary{name}")
        of = len(secrets(f"secrets{name}")), len(ordinary(f"ordinary{name}"))
        print(f"{len(left)} of {of[0]} secrets missed, {len(changed)} of {of[1]} ordinary texts touched")
        for text in left + changed if "--show" in sys.argv else []:
            print(f"  {text[:160]!r}")
