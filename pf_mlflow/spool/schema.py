"""The spool's tables: scripts that bring a file from each version to the next, never changed once released.

A script only adds: flows with vendored copies of older versions use the same file. That is also why triggers number the
records, and not the statements that write them.
"""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

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
_THIRD = """
ALTER TABLE line ADD COLUMN seq INTEGER;
CREATE TABLE sequence (last INTEGER NOT NULL);
INSERT INTO sequence SELECT coalesce(max(line_number) + 1, 0) FROM line;
UPDATE line SET seq = line_number + 1 WHERE record IS NOT NULL;
CREATE INDEX line_queue ON line (batch_uid, seq) WHERE refused IS NULL AND record IS NOT NULL;
CREATE TRIGGER line_completed AFTER UPDATE OF record ON line BEGIN
    UPDATE sequence SET last = last + 1;
    UPDATE line SET seq = (SELECT last FROM sequence)
        WHERE batch_uid = new.batch_uid AND line_number = new.line_number;
END;
CREATE TRIGGER line_came_complete AFTER INSERT ON line WHEN new.record IS NOT NULL BEGIN
    UPDATE sequence SET last = last + 1;
    UPDATE line SET seq = (SELECT last FROM sequence)
        WHERE batch_uid = new.batch_uid AND line_number = new.line_number;
END
"""

MIGRATIONS = (_FIRST, _SECOND, _THIRD)
