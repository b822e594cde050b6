"""Compares requirement files by package names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

__all__ = ["conflicts", "missing"]


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:  # an option, a path, a comment
        return None


def missing(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the wanted requirements whose packages are not listed; none if this package is."""
    have = {canonicalize_name(found.name) for line in there if (found := _requirement(line))}
    if "pf-mlflow" in have:
        return []
    return [line for line in wanted if canonicalize_name(Requirement(line).name) not in have]


def conflicts(wanted: Iterable[str], there: Iterable[str]) -> Iterable[str]:
    """Yield what is to be told of pinned versions that do not go with what is wanted."""
    ours = {canonicalize_name(one.name): one.specifier for line in wanted if (one := _requirement(line))}
    for line in there:
        found = _requirement(line)
        pin = re.fullmatch(r"==\s*([\w.]+)", str(found.specifier)) if found else None
        if found and pin and pin[1] not in ours.get(canonicalize_name(found.name), found.specifier):
            yield f"pins {line}, but child runs need {found.name}{ours[canonicalize_name(found.name)]}."
