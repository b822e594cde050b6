"""The spool: one SQLite file per user that keeps records until MLflow has them.

Written by every worker of every batch, drained by one delivery process per batch. What was committed survives `kill -9`
of its writer.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from pf_mlflow.records.batch import Batch
from pf_mlflow.spool.entries import MIGRATIONS, NEXT_SEQ, BatchState, OpenWorker, SpooledLine
from pf_mlflow.sqlite_file import SqliteFile, make_private

__all__ = ["Spool", "is_full"]

_LINE = "batch_uid = ? AND line_number = ?"
_PAGE = 4096
"""Bytes; SQLite's own page size."""


def is_full(error: Exception) -> bool:
    """Tell whether an error of the spool means that it has reached its limit, or its disk is full."""
    return isinstance(error, sqlite3.OperationalError) and "full" in str(error)


class Spool:
    """The spool in a folder, made on first use. Safe for threads, processes and forks.

    Args:
        folder: The folder; its lock files and the log of the delivery processes stand beside the spool.
        limit_mb: How large lines may make it, in MiB; `None` for whoever empties it.
    """

    FILE = "spool.db"
    _OURS = (
        *("spool.db*", "verdicts.db*", "delivery.log", "locks", "packages", "upgrades.txt"),
        *("empty-store-*", "known-store.json*"),
    )
    _KEPT_AFTER_CLOSING = 365 * 24 * 3600.0
    _LEFT_FOR_GOOD = 30 * 24 * 3600.0
    """Seconds after which what is left over is only delivered when asked for."""
    _CHECKPOINT = {True: 1000, False: 8000}
    """After how many pages in the log, by whether this process empties the spool: lines must not wait for it."""

    def __init__(self, folder: Path, limit_mb: int | None = None) -> None:
        self.folder = folder
        make_private(folder, self._OURS)
        settings = [f"wal_autocheckpoint = {self._CHECKPOINT[limit_mb is None]}"]
        if limit_mb is not None:
            settings.append(f"max_page_count = {limit_mb * 2**20 // _PAGE}")
        self._db = SqliteFile(folder / self.FILE, MIGRATIONS, settings)

    # What the running flow writes

    def add_batch(self, batch: Batch) -> None:
        """Make a batch known, once."""
        sql = "INSERT OR IGNORE INTO batch (uid, info, created) VALUES (?, ?, ?)"
        self._db.write(sql, batch.uid, batch.to_json(), time.time())

    def open_line(
        self, batch_uid: str, line_number: int, start: float, worker_started: float | None = None, draft: str = ""
    ) -> None:
        """Note that a line has started in this process, at a Unix time in seconds; `draft`: what is known of it now."""
        sql = (
            "INSERT OR IGNORE INTO line (batch_uid, line_number, opened, worker_pid, worker_started, draft) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        self._db.write(sql, batch_uid, line_number, start, os.getpid(), worker_started, draft or None)

    def complete_line(self, batch_uid: str, line_number: int, start: float, record: str) -> None:
        """Keep the record of a line that has ended, whether it was opened before or not."""
        sql = (
            "INSERT INTO line (batch_uid, line_number, opened, record, seq) "
            f"VALUES (?1, ?2, ?3, ?4, {NEXT_SEQ.format(uid='?1')}) ON CONFLICT (batch_uid, line_number) DO UPDATE "
            "SET record = excluded.record, seq = excluded.seq, version = version + 1, refused = NULL"
        )
        self._db.write(sql, batch_uid, line_number, start, record)

    def run_id(self, batch_uid: str, line_number: int) -> str:
        """Return the id of a line's child run, or `""` while MLflow has not made it."""
        row = self._db.one(f"SELECT run_id FROM line WHERE {_LINE}", batch_uid, line_number)
        return (row and row["run_id"]) or ""

    # What the delivery process reads and writes

    def batch(self, uid: str) -> Batch | None:
        """Return a batch, or `None` if the spool does not know it."""
        state = self.state(uid)
        return state.batch if state else None

    def opened(self, batch_uid: str) -> dict[int, float]:
        """Return when the lines were opened that go on and have no child run yet, by number."""
        sql = (
            "SELECT line_number, opened FROM line "
            "WHERE batch_uid = ? AND refused IS NULL AND record IS NULL AND run_id IS NULL"
        )
        return {row["line_number"]: row["opened"] for row in self._db.all(sql, batch_uid)}

    def completed(self, batch_uid: str, after: int = 0, limit: int = 100) -> list[SpooledLine]:
        """Return lines whose record waits, in the order in which they came, from the one after a `seq`."""
        sql = (
            "SELECT line_number, opened, record, seq FROM line "
            "WHERE batch_uid = ? AND seq > ? AND refused IS NULL ORDER BY seq LIMIT ?"
        )
        return [SpooledLine(*row) for row in self._db.all(sql, batch_uid, after, limit)]

    def draft(self, batch_uid: str, line_number: int) -> str | None:
        """Return what was known of a line when it started."""
        row = self._db.one(f"SELECT draft FROM line WHERE {_LINE}", batch_uid, line_number)
        return row["draft"] if row else None

    def refused(self, batch_uid: str) -> dict[int, str]:
        """Return why MLflow refused lines, by number."""
        sql = "SELECT line_number, refused FROM line WHERE batch_uid = ? AND refused IS NOT NULL"
        return dict(tuple(row) for row in self._db.all(sql, batch_uid))

    def unfinished(self, batch_uid: str) -> dict[int, float]:
        """Return when the lines were opened that were never completed, by number."""
        sql = "SELECT line_number, opened FROM line WHERE batch_uid = ? AND record IS NULL"
        return {row["line_number"]: row["opened"] for row in self._db.all(sql, batch_uid)}

    def workers(self, batch_uid: str) -> list[OpenWorker]:
        """Return the processes that have lines open."""
        sql = (
            "SELECT worker_pid, worker_started, opened FROM line "
            "WHERE batch_uid = ? AND record IS NULL AND worker_started IS NOT NULL"
        )
        return [OpenWorker(*row) for row in self._db.all(sql, batch_uid)]

    def settle(self, batch_uid: str, run_ids: Mapping[int, str], delivered: Iterable[tuple[int, int]]) -> None:
        """Remember the child runs of lines, and drop the records that MLflow has, given by line number and `seq`."""
        with self._db.transaction() as db:
            named = [(run_id, batch_uid, number) for number, run_id in run_ids.items()]
            db.executemany(f"UPDATE line SET run_id = ? WHERE {_LINE}", named)
            done = [(batch_uid, number, seq) for number, seq in delivered]
            db.executemany(f"DELETE FROM line WHERE {_LINE} AND seq = ?", done)
            if done:
                highest = max(seq for *_, seq in done)
                db.execute("UPDATE batch SET settled_seq = max(settled_seq, ?) WHERE uid = ?", (highest, batch_uid))

    def drop_opened(self, batch_uid: str) -> None:
        """Forget which lines were open in a batch that is over."""
        self._db.write("DELETE FROM line WHERE batch_uid = ? AND record IS NULL", batch_uid)

    def refuse(self, batch_uid: str, line_number: int, reason: str, seq: int | None = None) -> None:
        """Keep a record that MLflow refused for good; with a `seq`, unless a newer one came."""
        sql = f"UPDATE line SET refused = ? WHERE {_LINE} AND coalesce(seq = ?, TRUE)"
        self._db.write(sql, reason, batch_uid, line_number, seq)

    def retry_refused(self, batch_uid: str) -> None:
        """Let what MLflow refused be tried again."""
        self._db.write("UPDATE line SET refused = NULL WHERE batch_uid = ? AND refused IS NOT NULL", batch_uid)

    def set_parent(self, batch_uid: str, run_id: str | None, experiment_id: str) -> None:
        """Remember the parent run of a batch and its experiment; whatever trouble there was is over."""
        sql = "UPDATE batch SET parent_run_id = ?, experiment_id = ?, told = NULL WHERE uid = ?"
        self._db.write(sql, run_id, experiment_id, batch_uid)

    def set_trouble(self, batch_uid: str, trouble: str | None) -> str | None:
        """Leave a sentence for whoever watches the batch, or take it back; return the one that was there."""
        state = self.state(batch_uid)
        self._db.write("UPDATE batch SET told = ? WHERE uid = ?", trouble, batch_uid)
        return state.trouble if state else None

    def close_batch(self, batch_uid: str, summary: str) -> None:
        """Close a batch all of whose lines are delivered, and forget batches closed long ago."""
        now = time.time()
        with self._db.transaction() as db:
            db.execute("UPDATE batch SET closed = ?, summary = ? WHERE uid = ?", (now, summary, batch_uid))
            long_ago = (now - self._KEPT_AFTER_CLOSING,)
            db.execute("DELETE FROM line WHERE batch_uid IN (SELECT uid FROM batch WHERE closed < ?)", long_ago)
            db.execute("DELETE FROM batch WHERE closed < ?", long_ago)
        self._db.all("PRAGMA incremental_vacuum(2000)")
        self._empty_log()

    def keep_sums(self, batch_uid: str, summary: str) -> None:
        """Put other sums in the place of those of a closed batch."""
        self._db.write("UPDATE batch SET summary = ? WHERE uid = ?", summary, batch_uid)
        self._empty_log()

    def _empty_log(self) -> None:
        """Bring what was deleted out of the log too, which holds every text that ever was in the file."""
        self._db.all("PRAGMA busy_timeout = 500")  # lines of other batches wait meanwhile
        self._db.all("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.all("PRAGMA busy_timeout = 10000")

    # Who delivers, and how a batch stands

    def state(self, batch_uid: str) -> BatchState | None:
        """Return how a batch stands, `None` if the spool does not know it."""
        row = self._db.one("SELECT * FROM batch WHERE uid = ?", batch_uid)
        return BatchState.of(row) if row else None

    def run_of(self, batch: Batch) -> str | None:
        """Return the run of a batch, or of the one that it scores, as far as it is known."""
        state = self.state(batch.base_uid or batch.uid)
        return state.parent_run_id if state else None

    def batches_of_client(self, client_pid: int, client_started: float) -> list[BatchState]:
        """Return the batches that a process has started, oldest first."""
        where = "json_extract(info, '$.client_pid') = ? AND abs(json_extract(info, '$.client_started') - ?) < 1"
        rows = self._db.all(f"SELECT * FROM batch WHERE {where} ORDER BY created", client_pid, client_started)
        return [BatchState.of(row) for row in rows]

    def batches_named(self, name: str) -> list[Batch]:
        """Return the batches of a name, oldest first."""
        return self._batches("WHERE json_extract(info, '$.name') = ? ORDER BY created", name)

    def newest(self) -> Batch | None:
        """Return the batch that came last, `None` if the spool knows none."""
        return next(iter(self._batches("ORDER BY created DESC LIMIT 1")), None)

    def leftovers(self, within: float = _LEFT_FOR_GOOD, refused: bool = False) -> list[Batch]:
        """Return the batches of so many seconds that MLflow does not fully have; `refused` lines count if so said."""
        waits = "closed IS NULL OR EXISTS (SELECT 1 FROM line WHERE batch_uid = uid AND (refused IS NULL OR ?))"
        return self._batches(f"WHERE ({waits}) AND created > ? ORDER BY created", refused, time.time() - within)

    def _batches(self, which: str, *values: object) -> list[Batch]:
        return [Batch.from_json(row["info"]) for row in self._db.all(f"SELECT info FROM batch {which}", *values)]

    def waiting(self, batch_uid: str) -> int:
        """Return how many lines of a batch MLflow does not fully have yet."""
        return self._count("TRUE", batch_uid)

    def delivered(self, batch_uid: str) -> int:
        """Return how many records of a batch MLflow has taken, but for those of which the spool could not be told."""
        waiting = "SELECT count(*) FROM line WHERE batch_uid = uid AND seq <= settled_seq"
        row = self._db.one(f"SELECT settled_seq - ({waiting}) AS delivered FROM batch WHERE uid = ?", batch_uid)
        return int(row["delivered"]) if row else 0

    def undelivered(self, batch_uid: str) -> int:
        """Return how many lines of a batch wait for MLflow that it has not refused."""
        return self._count("refused IS NULL", batch_uid)

    def _count(self, which: str, batch_uid: str) -> int:
        return int(self._db.all(f"SELECT count(*) FROM line WHERE batch_uid = ? AND {which}", batch_uid)[0][0])

    def refusals(self) -> list[tuple[str, int, str]]:
        """Return the batches of which MLflow refused lines: name, how many, and why the first."""
        sql = (
            "SELECT json_extract(info, '$.name'), count(*), min(refused) FROM line JOIN batch ON uid = batch_uid "
            "WHERE refused IS NOT NULL GROUP BY uid"
        )
        return [(name, count, why) for name, count, why in self._db.all(sql)]

    def used(self) -> int:
        """Return how many bytes of the file are in use, the log apart."""
        pages, free, size = (
            self._db.all(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def size(self) -> int:
        """Return how many bytes the file takes, with the log."""
        files = (self.folder / f"{self.FILE}{end}" for end in ("", "-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def compact(self) -> int:
        """Write the file anew without what was deleted, and return how many bytes that frees.

        Lines of a batch that runs would wait for it.
        """
        before = self.size()
        self._db.all("PRAGMA auto_vacuum = INCREMENTAL")  # files of early versions are of another kind
        self._db.all("VACUUM")
        self._empty_log()
        return before - self.size()

    def claim_launch(self, batch_uid: str, now: float) -> bool:
        """Tell whether the caller may start a delivery process: one may at a time, ever more rarely.

        A process that ends at once would otherwise be started with each line. `now` is `time.monotonic()`, which all
        processes share until the machine starts anew.
        """
        sql = (
            "UPDATE batch SET launched = ?, launches = launches + 1 WHERE uid = ? AND "
            "(launched IS NULL OR launched > ? OR ? - launched > min(60, 2 << min(launches, 5)))"
        )
        return self._db.write(sql, now, batch_uid, now, now) == 1

    def beat(self, batch_uid: str, pid: int, started: float, now: float) -> None:
        """Note that the process which delivers a batch is well, at a `time.monotonic()`."""
        sql = "UPDATE batch SET owner_pid = ?, owner_started = ?, beat = ? WHERE uid = ?"
        self._db.write(sql, pid, started, now, batch_uid)
