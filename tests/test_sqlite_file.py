from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pf_mlflow.sqlite_file import SqliteFile

FIRST = "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1)"
SECOND = "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 5; INSERT INTO t VALUES (2, 6)"


def rows(file: SqliteFile) -> list[tuple[int, ...]]:
    return [tuple(row) for row in file.all("SELECT * FROM t ORDER BY a")]


def test_each_migration_is_done_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.db"
    assert rows(SqliteFile(path, [FIRST])) == [(1,)]
    assert rows(SqliteFile(path, [FIRST])) == [(1,)]
    assert rows(SqliteFile(path, [FIRST, SECOND])) == [(1, 5), (2, 6)]
    assert rows(SqliteFile(path, [FIRST, SECOND])) == [(1, 5), (2, 6)]
    assert rows(SqliteFile(path, [FIRST])) == [(1, 5), (2, 6)]  # an older process beside a newer one
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_migration_may_hold_a_trigger(tmp_path: Path) -> None:
    trigger = "CREATE TRIGGER twice AFTER INSERT ON t BEGIN UPDATE t SET a = 2 * new.a; SELECT 1; END"
    file = SqliteFile(tmp_path / "x.db", [FIRST, f"{trigger};\nCREATE INDEX i ON t (a);\n"])
    file.write("INSERT INTO t VALUES (4)")
    assert rows(file) == [(8,), (8,)]


@pytest.mark.parametrize("bad", ["CREATE TABLE u (a); CREATE TABLE t (a)", "nonsense"])
def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, bad: str) -> None:
    SqliteFile(tmp_path / "x.db", [FIRST]).all("SELECT 1")
    with pytest.raises(sqlite3.OperationalError):
        SqliteFile(tmp_path / "x.db", [FIRST, bad]).all("SELECT 1")
    assert rows(SqliteFile(tmp_path / "x.db", [FIRST, SECOND])) == [(1, 5), (2, 6)]


def test_what_a_connection_is_like(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db", [FIRST], ["wal_autocheckpoint = 77", "max_page_count = 99"])
    asked = ("auto_vacuum", "journal_mode", "synchronous", "wal_autocheckpoint", "max_page_count")
    told = [file.all(f"PRAGMA {name}")[0][0] for name in asked]
    assert told == [2, "wal", 1, 77, 99]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_nobody_else_may_read_it_and_what_others_made_stays_as_it_was(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        SqliteFile(tmp_path / "new" / "x.db", [FIRST]).all("SELECT 1")
        (tmp_path / "shared.db").touch(0o640)
        SqliteFile(tmp_path / "shared.db", [FIRST]).all("SELECT 1")
    finally:
        os.umask(old)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "new/x.db", "new/x.db-wal", "shared.db")]
    assert modes == [0o700, 0o600, 0o600, 0o640]


def test_a_transaction_happens_wholly_or_not_at_all(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db", [FIRST])
    with pytest.raises(ZeroDivisionError), file.transaction() as db:
        db.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    assert rows(file) == [(1,)]
    with file.transaction() as db:
        db.execute("INSERT INTO t VALUES (3)")
        assert rows(SqliteFile(file.path, [FIRST])) == [(1,)]
    assert rows(file) == [(1,), (3,)]


@pytest.mark.parametrize("sql, changed", [("UPDATE t SET a = a + 1", 3), ("DELETE FROM t WHERE a > 1", 2)])
def test_a_write_tells_how_many_rows_it_changed(tmp_path: Path, sql: str, changed: int) -> None:
    file = SqliteFile(tmp_path / "x.db", [FIRST])
    assert [file.write("INSERT INTO t VALUES (?)", number) for number in (2, 3)] == [1, 1]
    assert file.write(sql) == changed
    assert file.one("SELECT * FROM t WHERE a > 100") is None


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    file, other = (SqliteFile(tmp_path / "x.db", [FIRST]) for _ in range(2))
    other.all("SELECT 1")
    with file.transaction() as db:
        writer = threading.Thread(target=other.write, args=("UPDATE t SET a = a * 2",))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        db.execute("UPDATE t SET a = a + 10")
    writer.join(10)
    assert rows(file) == [((1 + 10) * 2,)]
