"""Notices a batch whose model refuses every line, so that it stops instead of asking a thousand times."""

from __future__ import annotations

import re
import threading
from typing import Any

__all__ = ["FIRST_LINES", "Hopeless"]

FIRST_LINES = 8
"""So many lines are looked at, those that are over first."""
_REFUSED = re.compile(r"\bError code: (401|403|404)\b")
"""How the `openai` package begins to tell that a server refused: no such key, no right, no such model."""
_LOOK_AT = {"401": "the key", "403": "what the key may do", "404": "the model's name and the address"}


class Hopeless:
    """Looks at a batch's first lines. Safe for threads."""

    def __init__(self) -> None:
        self._seen = 0
        self._all_refused = True
        self._lock = threading.Lock()

    def noticed(self, result: Any) -> str | None:
        """Return why the rest of the batch is to be left, when the last of its first lines was refused as well.

        Args:
            result: promptflow's `LineResult` of a line that is over.
        """
        with self._lock:
            self._seen += 1
            if self._seen > FIRST_LINES or not self._all_refused:
                return None
            refused = _REFUSED.search(str((result.run_info.error or {}).get("message", "")))
            self._all_refused = refused is not None
            if refused is None or self._seen < FIRST_LINES:
                return None
            return (
                f"Stopped, for the model's server answered {refused[1]} to the last of the first {FIRST_LINES} lines "
                f"and refused the others too; look at {_LOOK_AT[refused[1]]}, then go on."
            )
