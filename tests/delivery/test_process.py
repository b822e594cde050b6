from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from builders import batch, line_record
from finished import CREATED, finished_batch, home_with
from servers import CountingProxy, free_port

from pf_mlflow.delivery import process as delivery
from pf_mlflow.errors import TrackingDown, TrackingRefused
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.launch import lock_of
from pf_mlflow.spool.processes import started_at
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.writer import StoreWriter


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


class Going:
    """A batch of promptflow's that is going on, and its spool."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.home = folder / "home"
        self.folder = finished_batch(self.home, [], status="Running", end_time=None)
        self.spool = Spool(folder / "spool")
        uid = batch_uid(self.home, "b1", CREATED)
        self.batch: Batch = batch(
            uid=uid, promptflow_home=str(self.home), tracking_uri=uri, client_pid=os.getpid(), client_started=-1.0
        )
        self.spool.add_batch(self.batch)

    def keep(self, number: int) -> None:
        record = line_record(batch_uid=self.batch.uid, line_number=number, run_name="b1")
        self.spool.complete_line(self.batch.uid, number, 100.0, record.to_json())

    def end(self, status: str = "Completed", **values: Any) -> None:
        properties = {"output_path": str(self.folder), "flow_path": str(self.home.parent / "joke-flow")}
        home_with(self.home, properties, status=status, end_time="2026-11-21T05:58:25+00:00", **values)

    def deliver(self, patient: bool = True) -> None:
        settings = read_settings()
        done = delivery.deliver(self.spool, self.batch, settings, settings.give_up_after if patient else -1.0)
        if done.error:
            raise done.error

    def runs(self) -> dict[int | None, KnownRun]:
        store = StoreWriter(self.batch.tracking_uri, self.batch.experiment, self.spool.folder)
        store.open_experiment()
        found = list(store.runs(self.batch.uid))
        assert len({run.line_number for run in found}) == len(found)
        return {run.line_number: run for run in found}

    @property
    def told(self) -> str | None:
        state = self.spool.state(self.batch.uid)
        assert state
        return state.trouble


@pytest.fixture
def going(fresh_store: Path, tmp_path: Path) -> Going:
    shutil.copy(fresh_store, tmp_path)
    return Going(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")


def test_a_batch_that_is_over_is_delivered_and_closed(going: Going) -> None:
    for number in range(3):
        going.keep(number)
    going.spool.open_line(going.batch.uid, 3, 100.0)
    going.end()
    going.deliver()
    runs = going.runs()
    assert {number: run.values.status for number, run in runs.items()} == {
        None: "FINISHED",
        0: "FINISHED",
        1: "FINISHED",
        2: "FINISHED",
        3: "FAILED",
    }
    state = going.spool.state(going.batch.uid)
    assert state and state.closed and state.parent_run_id == runs[None].run_id and going.told is None
    assert (state.owner_pid, going.spool.waiting(going.batch.uid), going.spool.leftovers()) == (os.getpid(), 0, [])


def test_sums_that_nobody_waits_for_hold_no_text(going: Going) -> None:
    going.keep(1)
    going.end()
    delivery._deliver_alone(going.spool, going.batch, read_settings(), patience=-1.0)
    state = going.spool.state(going.batch.uid)
    assert state and state.closed and state.summary
    (slowest,) = json.loads(state.summary)["slowest"]
    assert (slowest["line_number"], slowest["label"], slowest["error"]) == (1, "", None)


def test_lines_are_written_while_the_batch_goes_on(going: Going) -> None:
    going.batch = batch(**{**vars(going.batch), "client_started": started()})
    errors: list[Exception] = []

    def deliver() -> None:
        try:
            going.deliver()
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    thread = threading.Thread(target=deliver)
    thread.start()
    for number in range(5):
        going.spool.open_line(going.batch.uid, number, 100.0)
        time.sleep(0.05)
        going.keep(number)
    until = time.monotonic() + 20
    while going.spool.waiting(going.batch.uid) and time.monotonic() < until:
        time.sleep(0.05)
    assert thread.is_alive() and going.spool.waiting(going.batch.uid) == 0
    assert going.runs()[None].values.status == "RUNNING"
    going.end("Failed")
    thread.join(20)
    runs = going.runs()
    assert not errors and runs[None].values.status == "FAILED" and len(runs) == 1 + 5
    assert all(run.values.params["output"] == "Ha!" for number, run in runs.items() if number is not None)


def started() -> float:
    return started_at(psutil.Process())


def test_a_client_that_was_killed_ends_the_batch(going: Going) -> None:
    going.keep(0)
    going.deliver()  # the record says Running, but no such client runs
    assert going.runs()[None].values.status == "KILLED"


def test_whoever_comes_second_leaves_the_batch_alone(going: Going) -> None:
    going.keep(0)
    going.end()
    lock = lock_of(going.spool.folder, going.batch.uid)
    with lock.acquire(timeout=0):
        assert delivery.main(str(going.spool.folder), going.batch.uid) == 0
    assert going.spool.waiting(going.batch.uid) == 1
    assert delivery.main(str(going.spool.folder), going.batch.uid) == 0
    assert going.spool.waiting(going.batch.uid) == 0 and len(going.runs()) == 1 + 1


def test_what_earlier_batches_left_is_delivered_too(going: Going) -> None:
    going.keep(0)
    going.end()
    running = batch(uid="running", client_pid=os.getpid(), client_started=started(), tracking_uri="sqlite:///x.db")
    going.spool.add_batch(running)
    assert delivery.main(str(going.spool.folder)) == 0
    assert going.spool.waiting(going.batch.uid) == 0
    assert [one.uid for one in going.spool.leftovers()] == ["running"]


def test_trouble_is_told_and_the_records_stay(going: Going, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_MLFLOW_GIVE_UP_AFTER", "0.5")
    uri = f"http://127.0.0.1:{free_port()}"
    going.batch = batch(**{**vars(going.batch), "tracking_uri": uri})
    for number in range(3):
        going.keep(number)
    going.end()
    with pytest.raises(TrackingDown):
        going.deliver()
    assert going.told and uri in going.told and "Nothing is lost: 3 lines wait in the spool." in going.told
    logs = (going.folder / "logs.txt").read_text()
    assert "WARNING" in logs and going.told in logs and logs.count("Nothing is lost") == 1


def test_a_batch_that_somebody_deleted_in_mlflow_is_left_alone(going: Going) -> None:
    going.keep(0)
    going.end()
    going.deliver()
    store = StoreWriter(going.batch.tracking_uri, going.batch.experiment, going.spool.folder)
    store.open_experiment()
    for run in going.runs().values():
        store.delete(run.run_id)
    going.keep(1)
    assert delivery.main(str(going.spool.folder), going.batch.uid) == 0
    assert going.told and "Somebody deleted its runs" in going.told and "1 lines wait" in going.told
    assert going.runs() == {} and going.spool.waiting(going.batch.uid) == 1


def test_a_spool_that_takes_nothing_keeps_no_line_from_mlflow_and_no_process_alive(
    going: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    going.keep(0)
    going.end()
    monkeypatch.setattr(delivery, "Spool", lambda folder: going.spool)
    going.spool._db.write("PRAGMA query_only = ON")  # as if the disk were full
    assert delivery.main(str(going.spool.folder), going.batch.uid) == 0
    going.spool._db.write("PRAGMA query_only = OFF")
    assert going.spool.waiting(going.batch.uid) == 1 and len(going.runs()) == 1 + 1
    assert delivery.main(str(going.spool.folder), going.batch.uid) == 0
    assert going.spool.waiting(going.batch.uid) == 0 and len(going.runs()) == 1 + 1


def test_leftovers_are_tried_once(going: Going) -> None:
    going.batch = batch(**{**vars(going.batch), "tracking_uri": f"http://127.0.0.1:{free_port()}"})
    going.keep(0)
    going.end()
    begun = time.monotonic()
    with pytest.raises(TrackingDown):
        going.deliver(patient=False)
    assert time.monotonic() - begun < 10 and going.spool.waiting(going.batch.uid) == 1


def test_a_refusal_that_holds_for_all_ends_it(going: Going) -> None:
    going.batch = batch(**{**vars(going.batch), "tracking_uri": "sqlite:////nowhere/mlflow.db"})
    going.keep(0)
    going.end()
    with pytest.raises(TrackingRefused):
        going.deliver()
    assert going.told and "'/nowhere' is not a folder" in going.told and "1 lines wait" in going.told


def test_an_outage_is_told_and_taken_back(tmp_path: Path, proxy: CountingProxy) -> None:
    going = Going(tmp_path, proxy.uri)
    going.keep(0)
    going.end()
    proxy.answer = 500
    told: list[str | None] = []

    def heal() -> None:
        until = time.monotonic() + 20
        while not going.told and time.monotonic() < until:
            time.sleep(0.05)
        told.append(going.told)
        proxy.answer = None

    thread = threading.Thread(target=heal)
    thread.start()
    going.deliver()
    thread.join()
    assert told[0] and "answered 500" in told[0] and "tried again; nothing is lost" in told[0]
    assert going.told is None and len(going.runs()) == 1 + 1


def test_runs_that_a_proxy_had_made_twice_are_there_once(tmp_path: Path, proxy: CountingProxy) -> None:
    going = Going(tmp_path, proxy.uri)
    for number in range(4):
        going.keep(number)
    going.end()
    proxy.twice["runs/create"] = 3
    going.deliver()
    runs = going.runs()  # each line's once
    assert {run.values.status for run in runs.values()} == {"FINISHED"} and len(runs) == 1 + 4
    assert runs[None].values.metrics["lines_total"] == 4


def odd_batch(folder: Path, **changes: Any) -> Batch:
    """Return a batch of whose record promptflow's database holds no mapping."""
    home = home_with(folder / "odd", "no mapping")
    return batch(uid="odd", promptflow_home=str(home), client_pid=0, **changes)


@pytest.mark.parametrize("words", [[], ["uid"]])
def test_an_odd_batch_keeps_no_other_back(going: Going, tmp_path: Path, words: list[str]) -> None:
    odd = odd_batch(tmp_path, tracking_uri=going.batch.tracking_uri)
    with pytest.raises(AttributeError):
        LocalSource(odd).is_running()
    going.spool.add_batch(odd)
    going.spool.complete_line("odd", 0, 100.0, "no record")
    going.spool._db.write("UPDATE batch SET created = created - 9 WHERE uid = 'odd'")
    going.keep(0)
    going.end()
    assert delivery.main(str(going.spool.folder), *([going.batch.uid] * len(words))) == 0
    assert going.spool.waiting(going.batch.uid) == 0 and len(going.runs()) == 1 + 1
    assert going.spool.waiting("odd") == 1


def test_a_deleted_batch_of_many_lines_does_not_come_back(going: Going) -> None:
    for number in range(12):  # whose runs began before their parent's, as those do that a resumed batch copies
        going.keep(number)
    going.end()
    going.deliver()
    store = StoreWriter(going.batch.tracking_uri, going.batch.experiment, going.spool.folder)
    store.open_experiment()
    for run in going.runs().values():
        store.delete(run.run_id)
    going.keep(12)
    assert delivery.main(str(going.spool.folder)) == 0
    assert going.runs() == {} and going.spool.waiting(going.batch.uid) == 1
