"""What a metric may look at: the answer of one line and what it was given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOTHING", "LineFields"]

_TEXTS_OF_DOCUMENTS = ("content", "page_content", "text")  # of Azure, of LangChain, of promptflow's own index look-up


@dataclass(frozen=True)
class LineFields:
    """One line as text; what is missing, empty or only spaces is `None`. Made by `LineFields.of`."""

    answer: str | None = None
    question: str | None = None
    ground_truth: str | None = None
    context: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, answer: Any = None, question: Any = None, ground_truth: Any = None, context: Any = None, **extra: Any
    ) -> LineFields:
        """Return a line from values as a flow gives them: numbers, dicts and lists become text, lists as JSON.

        promptflow makes a text of what is missing where an input is a text: "None" of an output or a column that is
        `None`, "nan" of a column that the row lacks. So these are none.

        Args:
            answer: What the flow answered.
            question: What it was asked.
            ground_truth: What it should have answered.
            context: What it was given to answer from: a text, a list of texts or of documents, or such a list as JSON.
            extra: Further fields for metrics of the user's own, kept as they are.
        """
        answered, asked, expected = (_known(_text(value)) for value in (answer, question, ground_truth))
        return cls(answered, asked, expected, tuple(filter(_known, _texts(context))), extra)

    def has(self, name: str) -> bool:
        """Say whether the line has a field of this name that is not empty."""
        value = self.get(name)
        return value is not None and not (isinstance(value, (str, tuple)) and not value)

    def get(self, name: str) -> Any:
        """Return a field; `None` where the line has none of this name."""
        return vars(self)[name] if name in _OWN else self.extra.get(name)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that the line has, by name."""
        return {name: self.get(name) for name in (*_OWN, *self.extra) if self.has(name)}


_OWN = ("answer", "question", "ground_truth", "context")
NOTHING = {"None", "nan", "NaT", "<NA>"}
"""Texts that promptflow makes of a value that is not there: `str` of what Python and pandas have in its place."""


def _known(text: str | None) -> str | None:
    return None if text in NOTHING else text


def _text(value: Any) -> str | None:
    """Return a value as text, `None` where there is nothing; pandas has NaN where a file has nothing."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    text = value if isinstance(value, str) else _json(value) if isinstance(value, (dict, list, tuple)) else str(value)
    return text if text.strip() else None


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):  # keys of other types, a list that holds itself
        return str(value)


def _texts(context: Any) -> tuple[str, ...]:
    parts = _listed(context)
    return tuple(text for text in map(_document, parts) if text is not None)


def _listed(context: Any) -> list[Any]:
    if isinstance(context, str) and context.lstrip().startswith("["):
        try:
            context = json.loads(context)
        except (ValueError, RecursionError):
            return [context]
    return list(context) if isinstance(context, (list, tuple)) else [context]


def _document(part: Any) -> str | None:
    if isinstance(part, dict):
        return _text(next((part[name] for name in _TEXTS_OF_DOCUMENTS if part.get(name)), part or None))
    return _text(part)
