"""What is known of a line and a batch. Needs the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

__all__ = ["known_fields"]


def known_fields(cls: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out fields of a newer version: an older delivery process may read what a newer worker wrote."""
    return {f.name: data[f.name] for f in fields(cls) if f.name in data}
