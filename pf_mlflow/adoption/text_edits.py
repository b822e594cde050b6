"""Edits of a text that can be taken back byte for byte, also after others have edited the text as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Edit", "appended_lines", "applied", "taken_back"]


@dataclass(frozen=True)
class Edit:
    """At a place of a text, given in characters of the text as it will be, some text goes and some comes."""

    at: int
    removed: str
    added: str


def applied(text: str, changes: Iterable[tuple[int, str, str]]) -> tuple[str, list[Edit]]:
    """Make changes and return the new text and how to take them back.

    Args:
        text: The text.
        changes: Place in the text as it is, what goes, what comes. Changes of one place are made in their order.
    """
    edits: list[Edit] = []
    shift = 0
    for at, removed, added in sorted(changes, key=lambda change: change[0]):
        assert text[at + shift : at + shift + len(removed)] == removed
        edits.append(Edit(at + shift, removed, added))
        text = text[: at + shift] + added + text[at + shift + len(removed) :]
        shift += len(added) - len(removed)
    return text, edits


def taken_back(text: str, edits: Sequence[Edit]) -> str:
    """Return a text as it was before edits; what was changed elsewhere since stays.

    Raises:
        ValueError: what an edit added is not to be found, or in several places.
    """
    for edit in reversed(edits):
        at = edit.at if text.startswith(edit.added, edit.at) else _only_place(text, edit.added)
        text = text[:at] + edit.removed + text[at + len(edit.added) :]
    return text


def _only_place(text: str, added: str) -> int:
    if text.count(added) != 1:
        raise ValueError(added)
    return text.index(added)


def appended_lines(text: str, lines: Sequence[str]) -> tuple[int, str, str]:
    """Return the change that appends lines to a text, in the text's own kind of line ends."""
    newline = newline_of(text)
    start = newline if text and not text.endswith("\n") else ""
    return len(text), "", start + "".join(line + newline for line in lines)


def newline_of(text: str) -> str:
    """Return the line end that a text uses."""
    return "\r\n" if "\r\n" in text else "\n"
