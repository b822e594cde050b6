"""What texts are compared by: words, and single characters in scripts that put no spaces between words.

A morphological analyser would cut Japanese, Chinese or Thai into words, but each cuts otherwise, needs a dictionary of
tens of megabytes per language, and gives other numbers with the next version of that dictionary. Characters need
nothing, are the same on every machine, and are how BLEU and F1 are usually told for Chinese. Korean has spaces: words.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable

__all__ = ["is_mainly_spaceless", "only_latin", "separated_units", "spaced", "units"]

_SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # radicals, 々〆〇, numerals
    "\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # Hiragana, Katakana with ー, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\ua000-\ua4cf"  # Yi
    "\U0001aff0-\U0001b16f\U00020000-\U0003fffd"  # rarer kana and Han
)
_LATIN = re.compile("[\u0000-\u02ff\u1e00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff\uab30-\uab6f]")
_IS_SPACELESS = re.compile(f"[{_SPACELESS}]").match
_HAS_EAST_ASIAN_FORMS = re.compile(f"[{_SPACELESS}\uff01-\uffef]").search
_DROPPED = str.maketrans("", "", string.punctuation + "‘’‚‛“”„‟′″‐‑‒–−")  # ASCII's, and how typographers write these
_ZERO_WIDTH_SPACE = "\u200b"


def units(text: str) -> list[str]:
    """Return the units of a text in one notation: no punctuation, no case, half and full width the same.

    Punctuation of ASCII and its typographic forms vanish as in SQuAD's script ("don't" is "dont"); every other kind,
    as 、。「」, stands between units.
    """
    return _cut("".join(" " if _category(char) == "P" else char for char in _plain(text).translate(_DROPPED)))


def separated_units(text: str) -> list[str]:
    """Return the units as ROUGE wants them: whatever is no letter, digit or mark stands between units."""
    return _cut("".join(char if _category(char) in "LMN" else " " for char in _plain(text)))


def spaced(text: str) -> str:
    """Return a text with spaces around each character of spaceless scripts and their punctuation, for BLEU.

    A text without any is returned untouched.
    """
    if not _HAS_EAST_ASIAN_FORMS(text):
        return text
    return " ".join(_pieces(unicodedata.normalize("NFKC", text), _stands_alone_in_bleu))


def is_mainly_spaceless(text: str) -> bool:
    """Say whether a text is mainly in scripts without spaces, two characters of which count as a word."""
    found = units(text)
    characters = sum(bool(_IS_SPACELESS(unit)) for unit in found)
    return characters > 0 and characters >= 2 * (len(found) - characters)


def only_latin(text: str) -> bool:
    """Say whether all letters and digits of a text are Latin, with or without accents."""
    return text.isascii() or all(_LATIN.match(char) or not _is_letter_or_digit(char) for char in text)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.replace(_ZERO_WIDTH_SPACE, " ")).casefold()
    visible = folded if folded.isascii() else "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", visible)


def _cut(text: str) -> list[str]:
    composed = unicodedata.normalize("NFKC", text)  # a mark may now follow a letter that punctuation kept it from
    return [unit for piece in _pieces(composed, _is_spaceless) for unit in piece.split()]


def _pieces(text: str, alone: Callable[[str], bool]) -> list[str]:
    """Cut a text into characters that stand alone and the runs between them; a mark stays with what it marks."""
    if text.isascii():
        return [text]
    pieces: list[str] = []
    in_run = False
    for char in text:
        if pieces and (_category(char) == "M" and not pieces[-1][-1].isspace()):
            pieces[-1] += char
        elif alone(char):
            pieces.append(char)
            in_run = False
        elif in_run:
            pieces[-1] += char
        else:
            pieces.append(char)
            in_run = True
    return pieces


def _is_spaceless(char: str) -> bool:
    return _IS_SPACELESS(char) is not None


def _stands_alone_in_bleu(char: str) -> bool:
    return _is_spaceless(char) or (not char.isascii() and _category(char) == "P")


def _is_letter_or_digit(char: str) -> bool:
    return char.isalpha() or char.isdecimal()


def _category(char: str) -> str:
    return unicodedata.category(char)[0]
