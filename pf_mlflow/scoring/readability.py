"""The grade of school that a text asks of its readers, counted as textstat counts.

textstat itself is not used: it downloads its dictionary of pronunciations the first time that it is asked. Of the same
dictionary, Carnegie Mellon's, the counts of syllables are in `syllables.txt.xz`; its licence is in `CMUDICT_LICENSE`.
"""

from __future__ import annotations

import lzma
import re
import threading
from functools import lru_cache
from importlib.resources import files

from pf_mlflow.scoring.metric import library
from pf_mlflow.scoring.units import is_mainly_spaceless

__all__ = ["ari_grade", "flesch_kincaid_grade", "unreadable"]

_SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")
_QUOTE = re.compile(r"'(?!t|s|d|ve|ll|re)")  # an apostrophe that no ending as in "don't" follows
_PUNCTUATION = re.compile(r"[^\w\s']")
_lock = threading.Lock()


def unreadable(text: str | None) -> str | None:
    """Return why a text has no grade, or `None` where it has one."""
    if not text or not _words(text):
        return "needs words in the answer"
    if is_mainly_spaceless(text):
        return "is defined for text in words, and the answer is mainly in a script without spaces"
    return None


def flesch_kincaid_grade(text: str) -> float:
    """Return 0.39 words per sentence + 11.8 syllables per word - 15.59 (Kincaid et al. 1975).

    Syllables are those of the CMU dictionary's first pronunciation; of words that it lacks, the hyphenation's.
    """
    words = _words(text)
    syllables = sum(_syllables(word.lower()) for word in words)
    if not syllables:
        return 0.0  # textstat's answer to "Hm."
    return 0.39 * len(words) / _sentences(text) + 11.8 * syllables / len(words) - 15.59


def ari_grade(text: str) -> float:
    """Return 4.71 characters per word + 0.5 words per sentence - 21.43 (Smith and Senter 1967).

    All characters but spaces count, and so does, per character, each run of them as a word.
    """
    runs = text.split()
    return 4.71 * sum(map(len, runs)) / len(runs) + 0.5 * len(_words(text)) / _sentences(text) - 21.43


def _words(text: str) -> list[str]:
    return _PUNCTUATION.sub("", _QUOTE.sub("", text)).split()


def _sentences(text: str) -> int:
    """Count sentences; one of up to two words is taken for an abbreviation."""
    return max(1, sum(len(_words(found)) > 2 for found in _SENTENCE.findall(text)))


def _syllables(word: str) -> int:
    known = _dictionary().get(word)
    return len(library("pyphen", "pyphen").Pyphen(lang="en_US").positions(word)) + 1 if known is None else known


def _dictionary() -> dict[str, int]:
    with _lock:  # lines of as many threads would each read it, and keep it
        return _read_dictionary()


@lru_cache(maxsize=1)
def _read_dictionary() -> dict[str, int]:
    """Return the syllables of 126 000 words, which stand in one paragraph for each count, from 0 on."""
    text = lzma.decompress(files("pf_mlflow.scoring").joinpath("syllables.txt.xz").read_bytes()).decode("utf-8")
    return {word: count for count, words in enumerate(text.split("\n\n")) for word in words.split("\n") if word}
