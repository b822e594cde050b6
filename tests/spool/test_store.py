from __future__ import annotations

import math
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from builders import batch
from spawned import spawn, write_and_die, write_lines

from pf_mlflow.errors import BadInput
from pf_mlflow.spool.entries import OpenWorker, SpooledLine
from pf_mlflow.spool.store import Spool, is_full


def deliver(spool: Spool, *numbers: int, uid: str = "uid") -> None:
    lines = spool.completed(uid)
    spool.settle(uid, {}, [(one.line_number, one.seq) for one in lines if one.line_number in numbers or not numbers])


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def records(spool: Spool, uid: str = "uid") -> dict[int, str]:
    return {line.line_number: line.record for line in spool.completed(uid)}


def test_a_line_on_its_way(spool: Spool) -> None:
    spool.add_batch(batch())
    spool.open_line("uid", 7, 100.0)
    assert (spool.opened("uid"), spool.completed("uid")) == ({7: 100.0}, [])
    assert (spool.unfinished("uid"), spool.waiting("uid"), spool.undelivered("uid")) == ({7: 100.0}, 1, 1)

    spool.settle("uid", {7: "run-7"}, [])
    assert (spool.opened("uid"), spool.completed("uid")) == (
        {},
        [],
    )  # it is shown as RUNNING, and there is no more to tell
    assert (spool.run_id("uid", 7), spool.waiting("uid")) == ("run-7", 1)

    spool.complete_line("uid", 7, 101.0, "record")
    (line,) = spool.completed("uid")
    assert line == SpooledLine(7, 100.0, "record", line.seq)
    assert (spool.unfinished("uid"), spool.opened("uid")) == ({}, {})

    spool.settle("uid", {}, [(7, line.seq)])
    assert (spool.completed("uid"), spool.waiting("uid"), spool.unfinished("uid")) == ([], 0, {})


def test_records_come_in_the_order_in_which_the_lines_ended(spool: Spool) -> None:
    for number in (9, 3, 5):
        spool.complete_line("uid", number, 100.0, f"record {number}")
    for number in (8, 5, 2):
        spool.open_line("uid", number, 100.0)
    spool.open_line("other", 1, 100.0)
    assert (spool.opened("uid"), spool.opened("other")) == ({2: 100.0, 8: 100.0}, {1: 100.0})
    lines = spool.completed("uid")
    assert [line.line_number for line in lines] == [9, 3, 5] and spool.completed("other") == []
    assert spool.completed("uid", lines[0].seq, limit=1) == [lines[1]]
    spool.complete_line("uid", 9, 100.0, "another record")  # a line that was executed anew
    spool.complete_line("uid", 2, 100.0, "record 2")
    assert [line.record for line in spool.completed("uid", lines[-1].seq)] == ["another record", "record 2"]


def test_no_number_is_given_twice(spool: Spool) -> None:
    spool.add_batch(batch())
    seen = []
    for number in range(4):
        spool.complete_line("uid", number, 100.0, "record")
        (line,) = spool.completed("uid")
        spool.settle("uid", {}, [(number, line.seq)])
        seen.append(line.seq)
    assert seen == sorted(set(seen))


def test_what_came_while_a_line_was_delivered_is_not_dropped(spool: Spool) -> None:
    spool.complete_line("uid", 1, 100.0, "first")
    (line,) = spool.completed("uid")
    spool.complete_line("uid", 1, 100.0, "second")  # a line that was executed anew
    spool.settle("uid", {}, [(1, line.seq)])
    assert records(spool) == {1: "second"}
    deliver(spool)
    assert (records(spool), spool.waiting("uid")) == ({}, 0)


def test_a_line_is_opened_once_and_never_back(spool: Spool) -> None:
    spool.open_line("uid", 1, 100.0)
    spool.settle("uid", {1: "run-1"}, [])
    spool.open_line("uid", 1, 200.0)
    assert (spool.run_id("uid", 1), spool.unfinished("uid")) == ("run-1", {1: 100.0})
    spool.complete_line("uid", 2, 100.0, "record")
    spool.open_line("uid", 2, 99.0)
    assert records(spool) == {2: "record"}


def test_a_refused_line_is_kept_and_tried_again_when_asked_for(spool: Spool) -> None:
    spool.complete_line("uid", 1, 100.0, "record")
    spool.refuse("uid", 1, "MLflow said no")
    assert (spool.opened("uid"), spool.completed("uid"), spool.unfinished("uid")) == ({}, [], {})
    assert (spool.waiting("uid"), spool.undelivered("uid")) == (1, 0)
    assert (spool.waiting("uid"), spool.refused("uid"), spool.refused("other")) == (1, {1: "MLflow said no"}, {})
    spool.retry_refused("uid")
    assert (records(spool), spool.refused("uid")) == ({1: "record"}, {})
    spool.refuse("uid", 1, "no")
    spool.complete_line("uid", 1, 100.0, "another")
    assert (records(spool), spool.refused("uid")) == ({1: "another"}, {})


def test_lines_that_were_open_when_their_batch_ended_are_dropped(spool: Spool) -> None:
    for number in (1, 2):
        spool.open_line("uid", number, 100.0)
    spool.open_line("other", 1, 100.0)
    spool.complete_line("uid", 2, 100.0, "record")
    spool.drop_opened("uid")
    assert (records(spool), spool.unfinished("uid"), spool.unfinished("other")) == ({2: "record"}, {}, {1: 100.0})


def test_the_processes_that_have_lines_open(spool: Spool) -> None:
    spool.open_line("uid", 1, 100.0, worker_started=50.0)
    spool.open_line("uid", 2, 200.0, worker_started=50.0)
    spool.open_line("uid", 3, 200.0)  # who knows which process: a line of an older version
    spool.open_line("uid", 4, 300.0, worker_started=50.0)
    spool.complete_line("uid", 4, 300.0, "record")
    assert spool.workers("uid") == [OpenWorker(os.getpid(), 50.0, 100.0), OpenWorker(os.getpid(), 50.0, 200.0)]


def test_nothing_is_known_of_a_line_or_batch_that_was_never_told(spool: Spool) -> None:
    assert (spool.batch("uid"), spool.state("uid"), spool.run_id("uid", 1)) == (None, None, "")
    assert (spool.opened("uid"), spool.completed("uid"), spool.waiting("uid")) == ({}, [], 0)
    assert (spool.leftovers(), spool.batches_named("b1"), spool.claim_launch("uid", 1.0)) == ([], [], False)


def test_a_batch_is_made_known_once(spool: Spool) -> None:
    spool.add_batch(batch())
    spool.add_batch(batch(name="another"))
    assert spool.batch("uid") == batch()
    told = [spool.set_trouble("uid", trouble) for trouble in ("trouble", "trouble", "more", None, None)]
    assert told == [None, "trouble", "trouble", "more", None]
    spool.set_trouble("uid", "trouble")
    spool.set_parent("uid", "parent", "1")
    state = spool.state("uid")
    assert state and (state.parent_run_id, state.experiment_id, state.trouble) == ("parent", "1", None)


def test_a_closed_batch_keeps_its_summary_and_what_was_not_delivered(spool: Spool) -> None:
    spool.add_batch(batch())
    for number in (1, 2):
        spool.complete_line("uid", number, 100.0, "record")
    deliver(spool, 1)
    spool.refuse("uid", 2, "no")
    spool.close_batch("uid", "summary")
    state = spool.state("uid")
    assert state and state.summary == "summary" and state.closed and time.time() - state.closed < 10
    assert spool.refused("uid") == {2: "no"} and spool.waiting("uid") == 1


def test_delivered_is_what_was_taken_out_and_not_what_never_came(spool: Spool) -> None:
    spool.add_batch(batch())
    assert (spool.delivered("uid"), spool.delivered("another")) == (0, 0)
    for number in range(6):
        spool.complete_line("uid", number, 100.0, "record")
    spool.settle("uid", {}, [(3, 4), (0, 1)])
    spool.refuse("uid", 1, "no")
    assert spool.delivered("uid") == 2  # and four wait, one of them refused; others may not have found room
    spool.settle("uid", {}, [(2, 3), (4, 5), (5, 6)])
    assert spool.delivered("uid") == 5


def test_what_is_left_over(spool: Spool) -> None:
    for uid in ("open", "closed", "refused", "late", "a month ago", "long ago"):
        spool.add_batch(batch(uid=uid))
    for uid in ("closed", "refused", "late"):
        spool.complete_line(uid, 1, 100.0, "record")
    spool.refuse("refused", 1, "no")
    deliver(spool, uid="closed")
    for uid in ("closed", "refused", "late"):
        spool.close_batch(uid, "summary")
    with sqlite3.connect(spool.folder / Spool.FILE) as db:
        for uid, days in {"a month ago": 29, "long ago": 31}.items():
            db.execute("UPDATE batch SET created = created - ? WHERE uid = ?", (days * 24 * 3600, uid))
    assert [one.uid for one in spool.leftovers()] == ["a month ago", "open", "late"]
    asked_for = ["long ago", "a month ago", "open", "refused", "late"]
    assert [one.uid for one in spool.leftovers(math.inf, refused=True)] == asked_for
    assert [one.uid for one in spool.batches_named("b1")][0] == "long ago"
    assert len(spool.batches_named("b1")) == 6 and spool.batches_named("b2") == []


@pytest.mark.parametrize("days, forgotten", [(364, False), (366, True)])
def test_batches_closed_long_ago_are_forgotten_with_their_lines(spool: Spool, days: int, forgotten: bool) -> None:
    for uid in ("old", "uid", "open"):
        spool.add_batch(batch(uid=uid))
    spool.complete_line("old", 1, 100.0, "record")
    spool.refuse("old", 1, "no")
    spool.close_batch("old", "summary")
    with sqlite3.connect(spool.folder / Spool.FILE) as db:
        db.execute("UPDATE batch SET closed = closed - ? WHERE uid = 'old'", (days * 24 * 3600,))
    spool.close_batch("uid", "summary")
    assert (spool.state("old") is None, spool.waiting("old")) == (forgotten, 0 if forgotten else 1)
    assert spool.state("uid") and spool.state("open")


@pytest.mark.parametrize(
    "pid, started, expected", [(1, 50.0, ["a", "b"]), (1, 50.9, ["a", "b"]), (1, 52.0, []), (2, 50.0, [])]
)
def test_batches_of_a_client(spool: Spool, pid: int, started: float, expected: list[str]) -> None:
    for uid in ("a", "b"):
        spool.add_batch(batch(uid=uid, client_pid=1, client_started=50.0))
    spool.add_batch(batch(uid="c"))
    assert [state.batch.uid for state in spool.batches_of_client(pid, started)] == expected


def test_launches_are_ever_more_rare(spool: Spool) -> None:
    spool.add_batch(batch())
    waits = [0, 4, 8, 16, 32, 60, 60]
    now = 1000.0
    for wait in waits:
        assert wait == 0 or not spool.claim_launch("uid", now + wait)
        now += wait + 1
        assert spool.claim_launch("uid", now) and not spool.claim_launch("uid", now)
    assert spool.claim_launch("uid", 5.0)  # the machine has started anew: its clock begins at 0
    assert not spool.claim_launch("uid", 5.0)


def test_only_one_of_many_may_launch(spool: Spool) -> None:
    spool.add_batch(batch())
    barrier = threading.Barrier(8)

    def claim(_: int) -> bool:
        own = Spool(spool.folder)
        own.batch("uid")
        barrier.wait(10)
        return own.claim_launch("uid", 100.0)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == 7 * [False] + [True]


def test_a_sign_of_life(spool: Spool) -> None:
    spool.add_batch(batch())
    spool.beat("uid", 4711, 12.5, 100.0)
    state = spool.state("uid")
    assert state and (state.owner_pid, state.owner_started, state.beat) == (4711, 12.5, 100.0)


def test_at_its_limit_it_says_so_and_whoever_empties_it_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_mb=1)
    spool.add_batch(batch())
    with pytest.raises(sqlite3.OperationalError) as told:
        for number in range(100):
            spool.complete_line("uid", number, 1.0, "x" * 100_000)
    assert is_full(told.value)
    kept = spool.completed("uid")
    assert 5 <= len(kept) <= 2**20 / 100_000
    assert (tmp_path / Spool.FILE).stat().st_size <= 2**20

    emptying = Spool(tmp_path)
    emptying.complete_line("uid", 200, 1.0, "x" * 1_000_000)
    deliver(emptying)
    emptying.close_batch("uid", "summary")
    spool.complete_line("uid", 300, 1.0, "x" * 100_000)
    assert list(records(spool)) == [300]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database is locked"), ValueError("full"), OSError("full")])
def test_other_errors_do_not_mean_that_it_is_full(error: Exception) -> None:
    assert not is_full(error)


VERSION_1 = """
CREATE TABLE batch (uid TEXT PRIMARY KEY, info TEXT NOT NULL, created REAL NOT NULL, owner_pid INTEGER,
    owner_started REAL, parent_run_id TEXT, experiment_id TEXT, told TEXT, summary TEXT, closed REAL);
CREATE TABLE line (batch_uid TEXT NOT NULL, line_number INTEGER NOT NULL, opened REAL NOT NULL, record TEXT,
    run_id TEXT, stats TEXT, refused TEXT, delivered INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch_uid, line_number)) WITHOUT ROWID;
CREATE INDEX line_opened ON line (batch_uid, line_number)
    WHERE delivered = 0 AND refused IS NULL AND record IS NULL AND run_id IS NULL;
CREATE INDEX line_complete ON line (batch_uid, line_number)
    WHERE delivered = 0 AND refused IS NULL AND record IS NOT NULL;
PRAGMA user_version = 1;
"""


def test_what_waits_in_a_spool_of_the_first_version_is_not_lost(spool: Spool) -> None:
    spool.folder.mkdir()
    with closing(sqlite3.connect(spool.folder / Spool.FILE)) as db, db:
        db.executescript(VERSION_1)
        db.execute("INSERT INTO batch (uid, info, created) VALUES ('uid', ?, ?)", (batch().to_json(), time.time()))
        rows = [
            (1, "waiting", None, None, 0),
            (2, None, "run-2", None, 0),
            (3, "refused", "run-3", "no", 0),
            (4, None, "run-4", None, 1),
        ]
        sql = "INSERT INTO line (batch_uid, line_number, opened, record, run_id, refused, delivered)"
        db.executemany(f"{sql} VALUES ('uid', ?, 100.0, ?, ?, ?, ?)", rows)
    assert spool.leftovers() == [batch()]
    assert records(spool) == {1: "waiting"}
    assert (spool.unfinished("uid"), spool.run_id("uid", 2), spool.refused("uid")) == ({2: 100.0}, "run-2", {3: "no"})
    assert (spool.waiting("uid"), spool.workers("uid")) == (3, [])
    assert spool.claim_launch("uid", 1.0)
    deliver(spool)
    assert Spool(spool.folder).waiting("uid") == 3 - 1
    with closing(sqlite3.connect(spool.folder / Spool.FILE)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


VERSION_2 = """
CREATE TABLE batch (uid TEXT PRIMARY KEY, info TEXT NOT NULL, created REAL NOT NULL, owner_pid INTEGER,
    owner_started REAL, parent_run_id TEXT, experiment_id TEXT, told TEXT, summary TEXT, closed REAL, beat REAL,
    launched REAL, launches INTEGER NOT NULL DEFAULT 0);
CREATE TABLE line (batch_uid TEXT NOT NULL, line_number INTEGER NOT NULL, opened REAL NOT NULL, worker_pid INTEGER,
    worker_started REAL, draft TEXT, record TEXT, version INTEGER NOT NULL DEFAULT 0, run_id TEXT, refused TEXT,
    PRIMARY KEY (batch_uid, line_number)) WITHOUT ROWID;
PRAGMA user_version = 2;
"""


def test_an_older_version_goes_on_with_the_same_spool(spool: Spool) -> None:
    """What version 2 of the package does, whose processes are alive while this one adds to the file."""
    spool.folder.mkdir()
    with closing(sqlite3.connect(spool.folder / Spool.FILE, isolation_level=None)) as older:
        older.executescript(VERSION_2)
        complete = (
            "INSERT INTO line (batch_uid, line_number, opened, record) VALUES ('uid', ?, 100.0, ?) "
            "ON CONFLICT (batch_uid, line_number) DO UPDATE "
            "SET record = excluded.record, version = version + 1, refused = NULL"
        )
        older.execute(complete, (3, "before"))
        assert records(spool) == {3: "before"}
        older.execute("INSERT OR IGNORE INTO line (batch_uid, line_number, opened) VALUES ('uid', 1, 100.0)")
        older.execute(complete, (1, "was opened"))
        older.execute(complete, (0, "was not"))
        assert records(spool) == {3: "before", 1: "was opened", 0: "was not"}
        assert older.execute("SELECT line_number, version FROM line WHERE record IS NOT NULL").fetchall() == [
            (0, 0),
            (1, 1),
            (3, 0),
        ]
        assert older.execute("DELETE FROM line WHERE line_number = 1 AND version = 1").rowcount == 1
    assert records(spool) == {3: "before", 0: "was not"}


def test_a_spool_of_another_format_is_refused(spool: Spool) -> None:
    spool.add_batch(batch())
    with closing(sqlite3.connect(spool.folder / Spool.FILE)) as db:
        db.execute("PRAGMA user_version = 1000")
    with pytest.raises(BadInput, match=r"spool\.db is of format 1000, made by a newer pf-mlflow") as told:
        Spool(spool.folder).waiting("uid")
    assert "\n" not in str(told.value)
    assert records(spool) == {}  # a process that has it open goes on


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_nobody_else_may_read_it(spool: Spool) -> None:
    spool.add_batch(batch())
    modes = {path.name: path.stat().st_mode & 0o777 for path in [spool.folder, *spool.folder.iterdir()]}
    assert modes == {"spool": 0o700, "spool.db": 0o600, "spool.db-wal": 0o600, "spool.db-shm": 0o600}


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
@pytest.mark.parametrize(("other", "folder_mode"), [(None, 0o700), ("thesis.txt", 0o755)])
def test_what_others_could_read_of_it_they_cannot_any_more(tmp_path: Path, other: str | None, folder_mode: int) -> None:
    names = ("spool.db", "delivery.log", *([other] if other else []))
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    tmp_path.chmod(0o755)
    Spool(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"spool.db": 0o600, "delivery.log": 0o600, **({other: 0o644} if other else {})}
    assert tmp_path.stat().st_mode & 0o777 == folder_mode


def test_no_text_of_a_closed_batch_is_left_in_it(spool: Spool) -> None:
    spool.add_batch(batch())
    for number in range(90):
        spool.open_line("uid", number, 100.0, draft=f"SECRET asked {number} {'x' * 5000}")
        spool.complete_line("uid", number, 100.0, f"SECRET answered {number} {'x' * 9000}")
    deliver(spool)
    spool.close_batch("uid", '{"slowest": "SECRET sum"}')
    spool.keep_sums("uid", "{}")
    assert [path.name for path in spool.folder.iterdir() if b"SECRET" in path.read_bytes()] == []


def test_threads_and_processes_write_to_a_fresh_spool_at_once(spool: Spool) -> None:
    workers = [spawn.Process(target=write_lines, args=(spool.folder, n, 50)) for n in range(3)]
    workers += [threading.Thread(target=write_lines, args=(spool.folder, n, 50)) for n in range(3, 6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers[:3]] == [0, 0, 0]
    assert len(spool.completed("uid", limit=1000)) == spool.waiting("uid") == 6 * 50
    assert spool.unfinished("uid") == {}


def test_many_open_a_fresh_spool_at_the_same_moment(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def open_fresh(folder: Path) -> None:
        own = Spool(folder)
        barrier.wait(10)
        own.add_batch(batch())

    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            list(pool.map(open_fresh, [tmp_path / f"spool{number}"] * 8))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_what_was_committed_survives_its_killed_writer(spool: Spool) -> None:
    worker = spawn.Process(target=write_and_die, args=(spool.folder,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert set(records(spool)) == set(range(20))
    spool.complete_line("uid", 20, 1.0, "record")  # the killed writer holds no lock


def in_child(work: object, patience: int = 5) -> int:
    """Do something in a forked child; return its exit code, or -SIGALRM if it did not come to an end."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(patience)
        try:
            work()  # type: ignore[operator]
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not run the other tests
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_writes_on_its_own(spool: Spool) -> None:
    spool.complete_line("uid", 1, 1.0, "parent's")
    inherited = spool._db._connection

    def write() -> None:
        spool.complete_line("uid", 2, 1.0, "child's")
        assert spool._db._connection is not inherited

    assert in_child(write) == 0
    spool.complete_line("uid", 3, 1.0, "parent's")
    assert records(spool) == {1: "parent's", 2: "child's", 3: "parent's"}
    with sqlite3.connect(spool.folder / Spool.FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_a_thread_writes_is_not_stuck(spool: Spool) -> None:
    spool.add_batch(batch())
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with spool._db.transaction():
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        assert in_child(lambda: spool.batch("uid"), patience=2) == 0
    finally:
        done.set()
        thread.join()
