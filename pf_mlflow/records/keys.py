"""Names and texts in the form that every store takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["readable", "valid_key"]

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


def valid_key(key: str, limit: int = _KEY_LIMIT) -> str:
    """Return a name that MLflow takes as a key, or as the beginning of one."""
    key = re.sub(r"[^\w.\- ]", "_", readable(key)).strip() or "_"
    if len(key) > limit:
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        key = f"{key[: limit - 9]}_{digest}"
    return f"_{key[1:]}" if key.startswith("..") or key == "." else key
