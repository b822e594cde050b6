"""Keeps verdicts, so that a second evaluation of the same lines asks no model; errors are not kept."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from pathlib import Path

from pf_mlflow.logs import warn_once
from pf_mlflow.scoring.judges.endpoint import Endpoint
from pf_mlflow.scoring.judges.judge import Judge, Question
from pf_mlflow.scoring.judges.reply import Verdict
from pf_mlflow.sqlite_file import SqliteFile

__all__ = ["VerdictCache"]

_TABLE = "CREATE TABLE verdict (key BLOB PRIMARY KEY, value TEXT NOT NULL, rationale TEXT, kept REAL) WITHOUT ROWID"
_DAYS = 90
"""How long a verdict is kept."""


class VerdictCache:
    """The verdicts given on this machine. Safe for threads, processes and forks; trouble with its file only warns.

    It holds a digest of each question, no text of it.

    Args:
        folder: Where its file is.
        content: `none` keeps no rationales.
    """

    FILE = "verdicts.db"

    def __init__(self, folder: Path, content: str = "all") -> None:
        self._db = SqliteFile(folder / self.FILE, [_TABLE])
        self._content = content
        self._swept = False

    def key(self, judge: Judge, endpoint: Endpoint, question: Question) -> bytes:
        """Return what a verdict depends on, as a digest."""
        asked = [judge.name, endpoint.url, endpoint.model, question.messages, question.response_format]
        parts = [*asked, self._content, *([endpoint.setting] if endpoint.setting != "{}" else [])]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()

    def get(self, key: bytes) -> Verdict | None:
        """Return the verdict that was given on a question, `None` if there was none."""
        try:
            row = self._db.one("SELECT value, rationale FROM verdict WHERE key = ?", key)
        except (sqlite3.Error, OSError) as error:
            self._without(error)
            return None
        return Verdict(json.loads(row["value"]), row["rationale"]) if row else None

    def keep(self, key: bytes, verdict: Verdict) -> None:
        """Keep a verdict."""
        rationale = None if self._content == "none" else verdict.rationale
        now = time.time()
        try:
            if not self._swept:
                self._swept = True
                self._db.write("DELETE FROM verdict WHERE kept < ?", now - _DAYS * 86_400)
            values = key, json.dumps(verdict.value), rationale, now
            self._db.write("INSERT OR REPLACE INTO verdict VALUES (?, ?, ?, ?)", *values)
        except (sqlite3.Error, OSError) as error:
            self._without(error)

    def _without(self, error: Exception) -> None:
        warn_once(f"Verdicts cannot be kept in {self._db.path} ({error}): every judge is asked anew.")
