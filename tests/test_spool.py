from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import batch

from pf_mlflow.spool import Pending, Spool

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def lines(spool: Spool, uid: str = "uid") -> list[tuple[int, str | None, str | None]]:
    return [(line.line_number, line.record, line.run_id) for line in spool.pending(uid)]


def test_a_line_on_its_way(spool: Spool) -> None:
    spool.add_batch(batch())
    spool.open_line("uid", 7, 100.0)
    assert spool.pending("uid") == [Pending(7, 100.0, None, None)]
    assert (spool.unfinished("uid"), spool.known_lines("uid"), spool.waiting("uid")) == ({7: 100.0}, {7}, 1)

    spool.set_run_id("uid", 7, "run-7")
    assert spool.pending("uid") == []  # it is shown as RUNNING, and there is no more to tell
    assert (spool.run_id("uid", 7), spool.waiting("uid")) == ("run-7", 1)

    spool.complete_line("uid", 7, 101.0, "record")
    assert spool.pending("uid") == [Pending(7, 100.0, "record", "run-7")]
    assert spool.unfinished("uid") == {}

    spool.delivered("uid", 7, "stats")
    assert (spool.pending("uid"), spool.waiting("uid"), spool.stats("uid")) == ([], 0, ["stats"])
    assert (spool.known_lines("uid"), spool.unfinished("uid")) == ({7}, {})


def test_what_is_pending_comes_in_order_with_lines_that_just_started_first(spool: Spool) -> None:
    for number in (9, 3, 5):
        spool.complete_line("uid", number, 100.0, f"record {number}")
    for number in (8, 5, 2):
        spool.open_line("uid", number, 100.0)
    spool.open_line("other", 1, 100.0)
    assert [line.line_number for line in spool.pending("uid")] == [2, 8, 3, 5, 9]
    assert [line.line_number for line in spool.pending("uid", limit=3)] == [2, 8, 3]
    assert [line.line_number for line in spool.pending("other")] == [1]


def test_a_line_may_be_told_of_more_than_once(spool: Spool) -> None:
    spool.complete_line("uid", 1, 100.0, "first")
    spool.open_line("uid", 1, 99.0)
    spool.set_run_id("uid", 1, "run-1")
    spool.delivered("uid", 1, "stats")
    spool.complete_line("uid", 1, 100.0, "second")  # a line that was executed anew
    assert lines(spool) == [(1, "second", "run-1")]


def test_a_refused_line_is_kept_but_not_tried_again(spool: Spool) -> None:
    spool.complete_line("uid", 1, 100.0, "record")
    spool.refuse("uid", 1, "MLflow said no", "stats")
    assert (spool.pending("uid"), spool.unfinished("uid"), spool.waiting("uid")) == ([], {}, 1)
    with sqlite3.connect(spool.folder / Spool.FILE) as db:
        assert db.execute("SELECT record, refused FROM line").fetchall() == [("record", "MLflow said no")]


def test_nothing_is_known_of_a_line_or_batch_that_was_never_told(spool: Spool) -> None:
    assert (spool.batch("uid"), spool.state("uid"), spool.run_id("uid", 1)) == (None, None, "")
    assert (spool.pending("uid"), spool.stats("uid"), spool.waiting("uid")) == ([], [], 0)


def test_a_batch_is_made_known_once(spool: Spool) -> None:
    spool.add_batch(batch())
    spool.add_batch(batch(name="another"))
    assert spool.batch("uid") == batch()
    spool.tell("uid", "trouble")
    spool.set_parent("uid", "parent", "1")
    state = spool.state("uid")
    assert state and (state["parent_run_id"], state["experiment_id"], state["told"]) == ("parent", "1", None)


def test_a_closed_batch_keeps_its_summary_and_what_was_not_delivered(spool: Spool) -> None:
    spool.add_batch(batch())
    for number in (1, 2):
        spool.complete_line("uid", number, 100.0, "record")
    spool.delivered("uid", 1, "stats")
    spool.refuse("uid", 2, "no", "stats")
    spool.close_batch("uid", "summary")
    state = spool.state("uid")
    assert state and state["summary"] == "summary" and time.time() - state["closed"] < 10
    assert spool.known_lines("uid") == {2}


@pytest.mark.parametrize("days, forgotten", [(29, False), (31, True)])
def test_batches_closed_long_ago_are_forgotten_with_their_lines(spool: Spool, days: int, forgotten: bool) -> None:
    for uid in ("old", "uid", "open"):
        spool.add_batch(batch(uid=uid))
    spool.complete_line("old", 1, 100.0, "record")
    spool.refuse("old", 1, "no", "stats")
    spool.close_batch("old", "summary")
    with sqlite3.connect(spool.folder / Spool.FILE) as db:
        db.execute("UPDATE batch SET closed = closed - ? WHERE uid = 'old'", (days * 24 * 3600,))
    spool.close_batch("uid", "summary")
    assert (spool.state("old") is None, spool.known_lines("old")) == (forgotten, set() if forgotten else {1})
    assert spool.state("uid") and spool.state("open")


@pytest.mark.parametrize(
    "pid, started, expected", [(1, 50.0, ["a", "b"]), (1, 50.9, ["a", "b"]), (1, 52.0, []), (2, 50.0, [])]
)
def test_batches_of_a_client(spool: Spool, pid: int, started: float, expected: list[str]) -> None:
    for uid in ("a", "b"):
        spool.add_batch(batch(uid=uid, client_pid=1, client_started=50.0))
    spool.add_batch(batch(uid="c"))
    assert [row["uid"] for row in spool.batches_of_client(pid, started)] == expected


def test_only_one_claims_a_batch(spool: Spool) -> None:
    spool.add_batch(batch())

    def claim(pid: int) -> int | None:
        own = Spool(spool.folder)
        with own.claim() as db:
            owner: int | None = db.execute("SELECT owner_pid FROM batch").fetchone()["owner_pid"]
            if owner is None:
                time.sleep(0.02)
                own.set_owner(db, "uid", pid, 1.0)
        return owner

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claim, range(8)))
    state = spool.state("uid")
    assert state and found.count(None) == 1 and set(found) == {None, state["owner_pid"]}


def test_a_claim_that_fails_leaves_no_trace(spool: Spool) -> None:
    spool.add_batch(batch())
    with pytest.raises(RuntimeError), spool.claim() as db:
        spool.set_owner(db, "uid", 1, 1.0)
        raise RuntimeError
    state = spool.state("uid")
    assert state and state["owner_pid"] is None
    spool.tell("uid", "and the spool goes on")


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_nobody_else_may_read_it(spool: Spool) -> None:
    spool.add_batch(batch())
    modes = {path.name: path.stat().st_mode & 0o777 for path in [spool.folder, *spool.folder.iterdir()]}
    assert modes == {"spool": 0o700, "spool.db": 0o600, "spool.db-wal": 0o600, "spool.db-shm": 0o600}


def write_lines(folder: Path, writer: int, count: int) -> None:
    spool = Spool(folder)
    spool.add_batch(batch())
    for number in range(count):
        spool.open_line("uid", writer * count + number, 1.0)
        spool.complete_line("uid", writer * count + number, 1.0, "record")


def test_threads_and_processes_write_to_a_fresh_spool_at_once(spool: Spool) -> None:
    workers = [spawn.Process(target=write_lines, args=(spool.folder, n, 50)) for n in range(3)]
    workers += [threading.Thread(target=write_lines, args=(spool.folder, n, 50)) for n in range(3, 6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers[:3]] == [0, 0, 0]
    assert spool.known_lines("uid") == set(range(6 * 50))
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


def write_and_die(folder: Path) -> None:
    spool = Spool(folder)
    write_lines(folder, 0, 20)
    with spool.claim() as db:
        spool.set_owner(db, "uid", 1, 1.0)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_what_was_committed_survives_its_killed_writer(spool: Spool) -> None:
    worker = spawn.Process(target=write_and_die, args=(spool.folder,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    state = spool.state("uid")
    assert spool.known_lines("uid") == set(range(20)) and state and state["owner_pid"] is None
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
    assert lines(spool) == [(1, "parent's", None), (2, "child's", None), (3, "parent's", None)]
    with sqlite3.connect(spool.folder / Spool.FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_a_thread_writes_is_not_stuck(spool: Spool) -> None:
    spool.add_batch(batch())
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with spool.claim():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert in_child(lambda: spool.batch("uid"), patience=2) == 0
    finally:
        done.set()
        thread.join()
