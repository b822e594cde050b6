"""The spool: one SQLite file per user that keeps records until MLflow has them.

Written by every worker of every batch, drained by one delivery process per batch. What was committed survives `kill -9`
of its writer.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pf_mlflow.records import Batch
from pf_mlflow.sqlite_file import SqliteFile

__all__ = ["Pending", "Spool"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
    uid TEXT PRIMARY KEY,
    info TEXT NOT NULL,
    created REAL NOT NULL,
    owner_pid INTEGER,
    owner_started REAL,
    parent_run_id TEXT,
    experiment_id TEXT,
    told TEXT,
    summary TEXT,
    closed REAL
);
CREATE TABLE IF NOT EXISTS line (
    batch_uid TEXT NOT NULL,
    line_number INTEGER NOT NULL,
    opened REAL NOT NULL,
    record TEXT,
    run_id TEXT,
    stats TEXT,
    refused TEXT,
    delivered INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch_uid, line_number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS line_opened ON line (batch_uid, line_number)
    WHERE delivered = 0 AND refused IS NULL AND record IS NULL AND run_id IS NULL;
CREATE INDEX IF NOT EXISTS line_complete ON line (batch_uid, line_number)
    WHERE delivered = 0 AND refused IS NULL AND record IS NOT NULL;
"""
_WAITING = "batch_uid = ? AND delivered = 0 AND refused IS NULL"
_LINE = "batch_uid = ? AND line_number = ?"


@dataclass(frozen=True)
class Pending:
    """A line that MLflow does not know all of yet: just opened (`record` is `None`), or complete."""

    line_number: int
    opened: float
    record: str | None
    run_id: str | None


class Spool:
    """The spool in a folder, made on first use. Safe for threads, processes and forks."""

    FILE = "spool.db"
    _KEPT_AFTER_CLOSING = 30 * 24 * 3600.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._db = SqliteFile(folder / self.FILE, _SCHEMA)

    # What the running flow writes

    def add_batch(self, batch: Batch) -> None:
        """Make a batch known, once."""
        sql = "INSERT OR IGNORE INTO batch (uid, info, created) VALUES (?, ?, ?)"
        self._db.write(sql, batch.uid, batch.to_json(), time.time())

    def open_line(self, batch_uid: str, line_number: int, start: float) -> None:
        """Tell that a line has started, at a Unix time in seconds."""
        sql = "INSERT OR IGNORE INTO line (batch_uid, line_number, opened) VALUES (?, ?, ?)"
        self._db.write(sql, batch_uid, line_number, start)

    def complete_line(self, batch_uid: str, line_number: int, start: float, record: str) -> None:
        """Keep the record of a line that has ended, whether it was opened before or not."""
        sql = (
            "INSERT INTO line (batch_uid, line_number, opened, record) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET record = excluded.record, delivered = 0, refused = NULL"
        )
        self._db.write(sql, batch_uid, line_number, start, record)

    def run_id(self, batch_uid: str, line_number: int) -> str:
        """Return the id of a line's child run, or `""` while MLflow has not made it."""
        row = self._db.one(f"SELECT run_id FROM line WHERE {_LINE}", batch_uid, line_number)
        return (row and row["run_id"]) or ""

    # What the delivery process reads and writes

    def batch(self, uid: str) -> Batch | None:
        """Return a batch, or `None` if the spool does not know it."""
        row = self.state(uid)
        return Batch.from_json(row["info"]) if row else None

    def pending(self, batch_uid: str, limit: int = 64) -> list[Pending]:
        """Return lines that want a child run or its completion; lines that just started first, to show as RUNNING."""
        rows: list[sqlite3.Row] = []
        for kind in ("record IS NULL AND run_id IS NULL", "record IS NOT NULL"):
            sql = f"SELECT line_number, opened, record, run_id FROM line WHERE {_WAITING} AND {kind} LIMIT ?"
            rows += self._db.all(sql, batch_uid, limit - len(rows))
        return [Pending(**dict(row)) for row in rows]

    def unfinished(self, batch_uid: str) -> dict[int, float]:
        """Return when the lines were opened that were never completed, by number."""
        sql = f"SELECT line_number, opened FROM line WHERE {_WAITING} AND record IS NULL"
        return {row["line_number"]: row["opened"] for row in self._db.all(sql, batch_uid)}

    def known_lines(self, batch_uid: str) -> set[int]:
        """Return the numbers of all lines of a batch that the spool holds or has delivered."""
        rows = self._db.all("SELECT line_number FROM line WHERE batch_uid = ?", batch_uid)
        return {row["line_number"] for row in rows}

    def set_run_id(self, batch_uid: str, line_number: int, run_id: str) -> None:
        """Remember a line's child run."""
        self._db.write(f"UPDATE line SET run_id = ? WHERE {_LINE}", run_id, batch_uid, line_number)

    def delivered(self, batch_uid: str, line_number: int, stats: str) -> None:
        """Drop a record that MLflow has; only the line's numbers stay until the batch is closed."""
        sql = f"UPDATE line SET delivered = 1, record = NULL, stats = ? WHERE {_LINE}"
        self._db.write(sql, stats, batch_uid, line_number)

    def refuse(self, batch_uid: str, line_number: int, reason: str, stats: str) -> None:
        """Keep a record that MLflow refused for good, without trying again; its numbers count all the same."""
        sql = f"UPDATE line SET refused = ?, stats = ? WHERE {_LINE}"
        self._db.write(sql, reason, stats, batch_uid, line_number)

    def stats(self, batch_uid: str) -> list[str]:
        """Return the numbers of the delivered lines of a batch."""
        sql = "SELECT stats FROM line WHERE batch_uid = ? AND stats IS NOT NULL ORDER BY line_number"
        return [row["stats"] for row in self._db.all(sql, batch_uid)]

    def set_parent(self, batch_uid: str, run_id: str | None, experiment_id: str) -> None:
        """Remember the parent run of a batch and its experiment; whatever trouble was told is over."""
        sql = "UPDATE batch SET parent_run_id = ?, experiment_id = ?, told = NULL WHERE uid = ?"
        self._db.write(sql, run_id, experiment_id, batch_uid)

    def tell(self, batch_uid: str, trouble: str | None) -> None:
        """Leave a sentence for whoever watches the batch, or take it back."""
        self._db.write("UPDATE batch SET told = ? WHERE uid = ?", trouble, batch_uid)

    def close_batch(self, batch_uid: str, summary: str) -> None:
        """Close a batch all of whose lines are delivered; forget its lines, and batches closed long ago."""
        now = time.time()
        with self._db.transaction() as db:
            db.execute("UPDATE batch SET closed = ?, summary = ? WHERE uid = ?", (now, summary, batch_uid))
            db.execute("DELETE FROM line WHERE batch_uid = ? AND delivered = 1", (batch_uid,))
            long_ago = (now - self._KEPT_AFTER_CLOSING,)
            db.execute("DELETE FROM line WHERE batch_uid IN (SELECT uid FROM batch WHERE closed < ?)", long_ago)
            db.execute("DELETE FROM batch WHERE closed < ?", long_ago)

    # Who delivers, and how a batch stands

    def state(self, batch_uid: str) -> sqlite3.Row | None:
        """Return the whole row of a batch."""
        return self._db.one("SELECT * FROM batch WHERE uid = ?", batch_uid)

    def batches_of_client(self, client_pid: int, client_started: float) -> list[sqlite3.Row]:
        """Return the rows of the batches that a process has started, oldest first."""
        sql = (
            "SELECT * FROM batch WHERE json_extract(info, '$.client_pid') = ? "
            "AND abs(json_extract(info, '$.client_started') - ?) < 1 ORDER BY created"
        )
        return self._db.all(sql, client_pid, client_started)

    def waiting(self, batch_uid: str) -> int:
        """Return how many lines of a batch MLflow does not fully have yet."""
        row = self._db.one("SELECT count(*) AS n FROM line WHERE batch_uid = ? AND delivered = 0", batch_uid)
        return int(row["n"]) if row else 0

    @contextmanager
    def claim(self) -> Iterator[sqlite3.Connection]:
        """Hold the spool while a delivery process is chosen; nobody else can choose one meanwhile."""
        with self._db.transaction() as db:
            yield db

    def set_owner(self, db: sqlite3.Connection, batch_uid: str, pid: int | None, started: float | None) -> None:
        """Name the process that delivers a batch, inside `claim`."""
        db.execute("UPDATE batch SET owner_pid = ?, owner_started = ? WHERE uid = ?", (pid, started, batch_uid))
