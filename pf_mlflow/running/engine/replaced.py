"""Exchanges a name of promptflow's for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["replaced"]


@contextmanager
def replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    """Let a class or module have another value under a name that it has, until the block is left."""
    before = vars(holder)[name]
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)
