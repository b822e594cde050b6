"""Texts with the keys of real services, written by their formats before anyone looked at masking's rules."""

from __future__ import annotations

import random
import re
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

from benchmarks.masking import is_missed
from pf_mlflow.records.masking import Secrets

_LETTERS = ascii_lowercase + ascii_uppercase
_ALPHABETS = {
    "A": _LETTERS + digits,
    "B": _LETTERS + digits + "+/",
    "D": digits,
    "H": digits + "abcdef",
    "L": ascii_lowercase + digits,
    "P": ascii_uppercase + digits,
    "U": _LETTERS + digits + "-_",
}
_SLOT = re.compile(r"<([ABDHLPU])(\d+)>")


def service_keys(seed: int = 1) -> list[tuple[str, str]]:
    """Return (text, its secret) for each line of `service_keys.txt`; a seed gives the same ones at each call."""
    drawn = random.Random(seed)

    def material(slot: re.Match[str]) -> str:
        return "".join(drawn.choices(_ALPHABETS[slot[1]], k=int(slot[2])))

    found = []
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        text = _SLOT.sub(material, line).replace("\\\\n", "\0").replace("\\n", "\n").replace("\0", "\\n")
        before, secret, after = re.split(r"\[\[|\]\]", text)
        found.append((before + secret + after, secret))
    return found


def missed(seed: int = 1) -> list[str]:
    """Return the texts whose secret can still be read after masking, without any variable or connection known."""
    secrets = Secrets([])
    return [text for text, secret in service_keys(seed) if is_missed(secret, secrets.masked(text))]


if __name__ == "__main__":
    texts = missed()
    print(f"{len(texts)} of {len(service_keys())} keys of services missed")
    for text in texts:
        print(f"  {text[:160]!r}")
