"""The spool: one SQLite file per user that keeps records until MLflow has them.

Written by every worker of every batch, drained by one delivery process per batch. WAL lets them all go on at once, and
what was committed survives `kill -9` of its writer.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_random

from pf_mlflow.records import Batch

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
CREATE INDEX IF NOT EXISTS line_pending ON line (batch_uid, line_number) WHERE delivered = 0;
"""


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
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None

    # What the running flow writes

    def add_batch(self, batch: Batch) -> None:
        """Make a batch known, once."""
        with self._write() as db:
            db.execute(
                "INSERT OR IGNORE INTO batch (uid, info, created) VALUES (?, ?, ?)",
                (batch.uid, batch.to_json(), time.time()),
            )

    def open_line(self, batch_uid: str, line_number: int, start: float) -> None:
        """Tell that a line has started, at a Unix time in seconds."""
        with self._write() as db:
            db.execute(
                "INSERT OR IGNORE INTO line (batch_uid, line_number, opened) VALUES (?, ?, ?)",
                (batch_uid, line_number, start),
            )

    def complete_line(self, batch_uid: str, line_number: int, start: float, record: str) -> None:
        """Keep the record of a line that has ended, whether it was opened before or not."""
        with self._write() as db:
            db.execute(
                "INSERT INTO line (batch_uid, line_number, opened, record) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET record = excluded.record, delivered = 0",
                (batch_uid, line_number, start, record),
            )

    def run_id(self, batch_uid: str, line_number: int) -> str:
        """Return the id of a line's child run, or `""` while MLflow has not made it."""
        row = self._one("SELECT run_id FROM line WHERE batch_uid = ? AND line_number = ?", batch_uid, line_number)
        return (row and row["run_id"]) or ""

    # What the delivery process reads and writes

    def batch(self, uid: str) -> Batch | None:
        """Return a batch, or `None` if the spool does not know it."""
        row = self._one("SELECT info FROM batch WHERE uid = ?", uid)
        return Batch.from_json(row["info"]) if row else None

    def pending(self, batch_uid: str, limit: int = 64) -> list[Pending]:
        """Return lines that want a child run or its completion; lines that just started first, to show as RUNNING."""
        rows = self._all(
            "SELECT line_number, opened, record, run_id FROM line WHERE batch_uid = ? AND delivered = 0 "
            "AND refused IS NULL AND (record IS NOT NULL OR run_id IS NULL) "
            "ORDER BY record IS NOT NULL, line_number LIMIT ?",
            batch_uid,
            limit,
        )
        return [Pending(**dict(row)) for row in rows]

    def unfinished(self, batch_uid: str) -> dict[int, float]:
        """Return when the lines were opened that were never completed, by number."""
        rows = self._all(
            "SELECT line_number, opened FROM line WHERE batch_uid = ? AND record IS NULL AND stats IS NULL "
            "AND refused IS NULL",
            batch_uid,
        )
        return {row["line_number"]: row["opened"] for row in rows}

    def known_lines(self, batch_uid: str) -> set[int]:
        """Return the numbers of all lines of a batch that the spool holds or has delivered."""
        return {row["line_number"] for row in self._all("SELECT line_number FROM line WHERE batch_uid = ?", batch_uid)}

    def set_run_id(self, batch_uid: str, line_number: int, run_id: str) -> None:
        """Remember a line's child run."""
        with self._write() as db:
            db.execute(
                "UPDATE line SET run_id = ? WHERE batch_uid = ? AND line_number = ?", (run_id, batch_uid, line_number)
            )

    def delivered(self, batch_uid: str, line_number: int, stats: str) -> None:
        """Drop a record that MLflow has; only the line's numbers stay until the batch is closed."""
        with self._write() as db:
            db.execute(
                "UPDATE line SET delivered = 1, record = NULL, stats = ? WHERE batch_uid = ? AND line_number = ?",
                (stats, batch_uid, line_number),
            )

    def refuse(self, batch_uid: str, line_number: int, reason: str) -> None:
        """Keep a record that MLflow refused for good, without trying again."""
        with self._write() as db:
            db.execute(
                "UPDATE line SET refused = ? WHERE batch_uid = ? AND line_number = ?", (reason, batch_uid, line_number)
            )

    def stats(self, batch_uid: str) -> list[str]:
        """Return the numbers of the delivered lines of a batch."""
        rows = self._all(
            "SELECT stats FROM line WHERE batch_uid = ? AND stats IS NOT NULL ORDER BY line_number", batch_uid
        )
        return [row["stats"] for row in rows]

    def set_parent(self, batch_uid: str, run_id: str | None, experiment_id: str) -> None:
        """Remember the parent run of a batch and its experiment."""
        with self._write() as db:
            db.execute(
                "UPDATE batch SET parent_run_id = ?, experiment_id = ?, told = NULL WHERE uid = ?",
                (run_id, experiment_id, batch_uid),
            )

    def tell(self, batch_uid: str, trouble: str | None) -> None:
        """Leave a sentence for whoever watches the batch, or take it back."""
        with self._write() as db:
            db.execute("UPDATE batch SET told = ? WHERE uid = ?", (trouble, batch_uid))

    def close_batch(self, batch_uid: str, summary: str) -> None:
        """Close a batch all of whose lines are delivered; forget its lines, and batches closed long ago."""
        with self._write() as db:
            db.execute("UPDATE batch SET closed = ?, summary = ? WHERE uid = ?", (time.time(), summary, batch_uid))
            db.execute("DELETE FROM line WHERE batch_uid = ? AND delivered = 1", (batch_uid,))
            long_ago = time.time() - self._KEPT_AFTER_CLOSING
            db.execute("DELETE FROM line WHERE batch_uid IN (SELECT uid FROM batch WHERE closed < ?)", (long_ago,))
            db.execute("DELETE FROM batch WHERE closed < ?", (long_ago,))

    # Who delivers, and how a batch stands

    def state(self, batch_uid: str) -> sqlite3.Row | None:
        """Return the whole row of a batch."""
        return self._one("SELECT * FROM batch WHERE uid = ?", batch_uid)

    def batches_of_client(self, client_pid: int, client_started: float) -> list[sqlite3.Row]:
        """Return the rows of the batches that a process has started, oldest first."""
        return self._all(
            "SELECT * FROM batch WHERE json_extract(info, '$.client_pid') = ? "
            "AND abs(json_extract(info, '$.client_started') - ?) < 1 ORDER BY created",
            client_pid,
            client_started,
        )

    def waiting(self, batch_uid: str) -> int:
        """Return how many lines of a batch MLflow does not fully have yet."""
        row = self._one("SELECT count(*) AS n FROM line WHERE batch_uid = ? AND delivered = 0", batch_uid)
        return int(row["n"]) if row else 0

    @contextmanager
    def claim(self, batch_uid: str) -> Iterator[sqlite3.Connection]:
        """Hold the spool while a delivery process is chosen; nobody else can choose one meanwhile."""
        with self._write() as db:
            yield db

    def set_owner(self, db: sqlite3.Connection, batch_uid: str, pid: int | None, started: float | None) -> None:
        """Name the process that delivers a batch, inside `claim`."""
        db.execute("UPDATE batch SET owner_pid = ?, owner_started = ? WHERE uid = ?", (pid, started, batch_uid))

    # SQLite

    def _one(self, sql: str, *values: object) -> sqlite3.Row | None:
        with self._mine():
            row: sqlite3.Row | None = self._open().execute(sql, values).fetchone()
            return row

    def _all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._mine():
            return self._open().execute(sql, values).fetchall()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._mine():
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _mine(self) -> threading.RLock:
        """Return the lock; after a fork a new one, and no connection: those inherited must not be used."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._connection = os.getpid(), threading.RLock(), None
        return self._lock

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    @retry(
        retry=retry_if_exception_message(match=".*locked"),  # SQLite does not wait while another process turns WAL on
        wait=wait_random(0.01, 0.05),
        stop=stop_after_delay(10),
        reraise=True,
    )
    def _connect(self) -> sqlite3.Connection:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / self.FILE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        return db
