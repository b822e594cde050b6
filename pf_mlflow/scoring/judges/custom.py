"""Judges by their names, and of the user's own: a YAML file with a name, guidelines or a prompt, and the verdicts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.errors import BadInput
from pf_mlflow.records.score import NO, OVERALL, ROOT_CAUSE, YES
from pf_mlflow.scoring.files import found_file
from pf_mlflow.scoring.judges.builtin import CHUNK_PRECISION, JUDGES
from pf_mlflow.scoring.judges.judge import FIELDS, Judge, placeholders, unknown_placeholder

__all__ = ["RESERVED", "is_judge", "load_judge"]

RESERVED = (OVERALL, ROOT_CAUSE, CHUNK_PRECISION)
"""Names of scores that a line has beside its verdicts."""
_KEYS = ("name", "guidelines", "prompt", "instructions", "values", "pass")
_TEXTS = ("guidelines", "prompt", "instructions")
_GUIDELINES = "Does the answer follow every one of these guidelines? One that does not apply is followed.\n"


def is_judge(entry: str) -> bool:
    """Say whether an entry of the metrics names a judge: one that comes with this package, or a file."""
    return entry in JUDGES or entry.endswith((".yaml", ".yml"))


def load_judge(entry: str, folders: Sequence[str | Path] = ()) -> Judge:
    """Return a judge by its name, or that of a file, which is read again when it changes.

    Raises:
        BadInput: the file is missing or no judge; the sentence names it and what to write.
    """
    if entry in JUDGES:
        return JUDGES[entry]
    path = found_file(entry, folders, "judge")
    return _judge(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _judge(path: Path, version: int) -> Judge:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput(f"The judge file {path} cannot be read: {' '.join(str(error).split())}.") from error
    try:
        return _read(content)
    except ValueError as error:
        raise BadInput(f"The judge file {path} is no judge: {error}.") from error


def _read(content: Any) -> Judge:
    if not isinstance(content, dict):
        raise ValueError(f"write `name:` and `guidelines:` or `prompt:`, not {type(content).__name__}")
    if unknown := [key for key in content if key not in _KEYS]:
        raise ValueError(f"it has {unknown[0]!r}; known are {', '.join(_KEYS)}")
    given = [key for key in _TEXTS if content.get(key)]
    if len(given) != 1:
        has = f"it has {' and '.join(given)}" if given else "it has none"
        raise ValueError(f"write one of {', '.join(_TEXTS)}; {has}")
    values = _values(content.get("values", [YES, NO]))
    passing = _passing(content.get("pass"), values)
    prompt, needs, shown = _prompt(given[0], content[given[0]])
    return Judge(_name(content.get("name")), prompt, needs, values, passing, shown)


def _name(given: Any) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"\w[\w.\- ]{0,99}", given):
        raise ValueError(f"name is {given!r}; write letters, digits, and _ - . or spaces")
    if given in JUDGES or given in RESERVED:
        raise ValueError(f"name {given!r} is taken; choose another")
    return given


def _prompt(key: str, given: Any) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the criteria, the fields that they need, and those shown below them."""
    if key == "guidelines":
        lines = [given] if isinstance(given, str) else given
        if not isinstance(lines, list) or not all(isinstance(line, str) and line.strip() for line in lines):
            raise ValueError("guidelines is no text and no list of texts")
        literal = [line.strip().replace("{{", "{ {") for line in lines]
        return _GUIDELINES + "\n".join(f"- {line}" for line in literal), ("answer",), ("question", "context", "answer")
    if not isinstance(given, str):
        raise ValueError(f"{key} is no text")
    if unknown := unknown_placeholder(given):
        known = ", ".join(f"{{{{ {name} }}}}" for name in FIELDS)
        raise ValueError(f"{key} has the placeholder {unknown}; known are {known}")
    names = placeholders(given)
    return given, names or ("answer",), () if names else FIELDS


def _values(given: Any) -> tuple[str, ...] | tuple[float, ...]:
    """Return the verdicts allowed; a bare `yes` or `no` of YAML is a bool."""
    listed = list(given) if isinstance(given, list) else []
    words = [_word(value) for value in listed]
    numbers = [value for value in listed if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(listed) < 2 or len(listed) not in (len([word for word in words if word]), len(numbers)):
        raise ValueError(f"values is {given!r}; write a list of two or more words, or of numbers")
    if len(numbers) == len(listed):
        return _distinct(tuple(numbers))
    return _distinct(tuple(word.lower() for word in words if word))


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values) or any(
        value != value or value in (float("inf"), -float("inf")) for value in values
    ):
        raise ValueError(f"values is {list(values)!r}; each must be another word or number")
    return values


def _word(value: Any) -> str | None:
    if isinstance(value, bool):
        return YES if value else NO
    return " ".join(unicodedata.normalize("NFC", value).split()) or None if isinstance(value, str) else None


def _passing(given: Any, values: tuple[Any, ...]) -> tuple[str | float, ...]:
    """Return the verdicts with which a line passes: those named, or numbers from one on; by default `yes`."""
    if given is None:
        return (YES,) if YES in values else ()
    if isinstance(given, (int, float)) and not isinstance(given, bool) and not isinstance(values[0], str):
        passing: tuple[str | float, ...] = tuple(value for value in values if value >= given)
    else:
        words = [_word(value) for value in (given if isinstance(given, list) else [given])]
        passing = tuple(word.lower() for word in words if word and word.lower() in values)
        if len(passing) < len(words):
            passing = ()
    if not passing:
        raise ValueError(f"pass is {given!r}; write one or more of {', '.join(map(str, values))}, or the least number")
    return passing
