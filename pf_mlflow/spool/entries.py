"""What the spool holds: its tables, and what is in them as whoever empties it reads it.

`MIGRATIONS` bring a file from each version to the next, and are never changed once released. A script only adds: flows
with vendored copies of older versions use the same file. The records of these are numbered by triggers, which write
them twice; this version's by the statement that writes them.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from pf_mlflow.records.batch import Batch

__all__ = ["MIGRATIONS", "NEXT_SEQ", "BatchState", "OpenWorker", "SpooledLine"]


@dataclass(frozen=True)
class SpooledLine:
    """A line that is over and that MLflow does not know all of yet."""

    line_number: int
    opened: float
    """Unix seconds."""
    record: str
    """The `LineRecord` as JSON."""
    seq: int
    """The record's place among all that came; a line that is executed anew gets another one."""


@dataclass(frozen=True)
class OpenWorker:
    """A process that executes a line, and since when (Unix seconds)."""

    pid: int
    started: float
    since: float


@dataclass(frozen=True)
class BatchState:
    """What is known of a batch besides its lines."""

    batch: Batch
    parent_run_id: str | None
    experiment_id: str | None
    trouble: str | None
    """What keeps lines from MLflow, as a sentence; `None` while all is well."""
    summary: str | None
    """The `BatchSummary` of a closed batch as JSON."""
    closed: float | None
    """When MLflow had all of it, in Unix seconds; `None` before."""
    owner_pid: int | None
    """The process that delivers it, or did last."""
    owner_started: float | None
    beat: float | None
    """The owner's last sign of life, by `time.monotonic()`."""

    @classmethod
    def of(cls, row: sqlite3.Row) -> BatchState:
        """Return the state in a row of table `batch`."""
        return cls(
            batch=Batch.from_json(row["info"]),
            parent_run_id=row["parent_run_id"],
            experiment_id=row["experiment_id"],
            trouble=row["told"],
            summary=row["summary"],
            closed=row["closed"],
            owner_pid=row["owner_pid"],
            owner_started=row["owner_started"],
            beat=row["beat"],
        )


_FIRST = """
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
    WHERE delivered = 0 AND refused IS NULL AND record IS NOT NULL
"""
_SECOND = """
ALTER TABLE batch ADD COLUMN beat REAL;
ALTER TABLE batch ADD COLUMN launched REAL;
ALTER TABLE batch ADD COLUMN launches INTEGER NOT NULL DEFAULT 0;
CREATE TABLE open_line (
    batch_uid TEXT NOT NULL,
    line_number INTEGER NOT NULL,
    opened REAL NOT NULL,
    worker_pid INTEGER,
    worker_started REAL,
    draft TEXT,
    record TEXT,
    version INTEGER NOT NULL DEFAULT 0,
    run_id TEXT,
    refused TEXT,
    PRIMARY KEY (batch_uid, line_number)
) WITHOUT ROWID;
INSERT INTO open_line (batch_uid, line_number, opened, record, run_id, refused)
    SELECT batch_uid, line_number, opened, record, run_id, refused FROM line WHERE delivered = 0;
DROP TABLE line;
ALTER TABLE open_line RENAME TO line;
CREATE INDEX line_opened ON line (batch_uid, line_number)
    WHERE refused IS NULL AND record IS NULL AND run_id IS NULL;
CREATE INDEX line_complete ON line (batch_uid, line_number) WHERE refused IS NULL AND record IS NOT NULL
"""
NEXT_SEQ = """1 + max(
    coalesce((SELECT max(seq) FROM line WHERE batch_uid = {uid} AND seq IS NOT NULL), 0),
    coalesce((SELECT settled_seq FROM batch WHERE uid = {uid}), 0))"""
"""The number of the record of a batch that comes next; higher than any before, also of those taken out."""

_THIRD = f"""
ALTER TABLE batch ADD COLUMN settled_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE line ADD COLUMN seq INTEGER;
UPDATE line SET seq = line_number + 1 WHERE record IS NOT NULL;
CREATE INDEX line_queue ON line (batch_uid, seq) WHERE seq IS NOT NULL;
CREATE TRIGGER line_completed AFTER UPDATE OF record ON line WHEN new.seq IS old.seq BEGIN
    UPDATE line SET seq = {NEXT_SEQ.format(uid="new.batch_uid")}
        WHERE batch_uid = new.batch_uid AND line_number = new.line_number;
END;
CREATE TRIGGER line_came_complete AFTER INSERT ON line WHEN new.record IS NOT NULL AND new.seq IS NULL BEGIN
    UPDATE line SET seq = {NEXT_SEQ.format(uid="new.batch_uid")}
        WHERE batch_uid = new.batch_uid AND line_number = new.line_number;
END
"""

MIGRATIONS = (_FIRST, _SECOND, _THIRD)
