"""Names and texts in the form that every store takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["distinct_key", "readable", "valid_key"]

_KEY_LIMIT = 240
"""Characters of a key; MLflow takes 250, the rest is for telling apart keys that became the same."""


def readable(value: Any) -> str:
    r"""Return a value as text that every backend takes: strings as they are, lists and dicts as JSON, others as `str`.

    NUL bytes become `␀` (PostgreSQL refuses them), lone surrogates `\udXXX` (no UTF-8 has them).
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, (Mapping, list, tuple)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text.replace("\0", "␀").encode("utf-8", "backslashreplace").decode("utf-8")


def valid_key(name: str, limit: int = _KEY_LIMIT) -> str:
    """Return a name that MLflow takes as a key, or as the beginning of one."""
    key = re.sub(r"[^\w.\- ]", "_", readable(name)).strip() or "_"
    if len(key) > limit:
        key = _told_apart(key, name, limit)
    return f"_{key[1:]}" if key.startswith("..") or key == "." else key


def distinct_key(name: str, limit: int = _KEY_LIMIT) -> str:
    """Return a valid key that no other name has: `c+`, `c#` and `c `, which had to be changed, end in a digest."""
    key = valid_key(name, limit)
    return key if key == name or len(name) > limit else _told_apart(key, name, limit)


def _told_apart(key: str, name: str, limit: int) -> str:
    digest = hashlib.sha256(readable(name).encode()).hexdigest()[:8]
    return f"{key[: limit - 9]}_{digest}"
