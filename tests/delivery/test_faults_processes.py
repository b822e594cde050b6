"""Processes are killed, hang, or have a strange clock: MLflow has each line once that had been started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from batches import Batch, check, check_killed, gated, until
from machine import FLOWS

from pf_mlflow.spool.processes import is_alive, started_at

StartBatch = Callable[..., Batch]


@pytest.mark.slow
def test_killed_worker(start_batch: StartBatch, server: str) -> None:
    # All lines have started: promptflow would give a dead worker one more, and mix up results from there on.
    batch = start_batch(server, gated("killed_worker_0", lines=12))
    batch.await_middle()
    batch.workers()[0].kill()
    until(lambda: "Process crashed" in batch.machine.logs(batch.name), "promptflow saw it")
    batch.release()
    batch.end()
    failed = set(range(len(batch.topics))) - batch.outputs()
    assert len(failed) == 1
    told = check(batch, failed)
    assert told.children[failed.pop()].data.tags["promptflow.error_type"] == "ProcessCrashError"


@pytest.mark.slow
def test_killed_process_manager(start_batch: StartBatch, server: str) -> None:
    batch = start_batch(server)
    batch.await_middle()
    batch.manager().kill()
    batch.release()
    batch.client.wait(120)
    check_killed(batch)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 8])
def test_killed_pf(start_batch: StartBatch, server: str, seconds: int) -> None:
    batch = start_batch(server)
    batch.await_middle()
    pool = [(one.pid, started_at(one)) for one in psutil.Process(batch.client.pid).children(recursive=True)]
    batch.client.kill()
    time.sleep(seconds)
    batch.release()
    until(lambda: batch.asked() <= batch.answered(), "the workers, which live on, ended the lines they had")
    time.sleep(1)
    batch.await_no_delivery()
    told = check_killed(batch)
    assert {child.info.status for child in told.children.values()} == {"FINISHED"}
    until(lambda: not any(is_alive(pid, start) for pid, start in pool), "promptflow's pool ended", 30)


@pytest.mark.slow
def test_killed_delivery(start_batch: StartBatch, server: str) -> None:
    batch = start_batch(server)
    batch.await_middle()
    for process in batch.deliveries():
        process.kill()
    batch.release()
    batch.end()
    check(batch)


@pytest.mark.slow
def test_killed_delivery_after_the_last_line(start_batch: StartBatch, server: str) -> None:
    batch = start_batch(server)
    batch.await_middle()
    batch.release()
    batch.await_answers(len(batch.topics))
    for process in batch.deliveries():
        process.kill()
    batch.end()
    check(batch)


@pytest.mark.slow
def test_everything_killed_at_once_then_synced(start_batch: StartBatch, server: str) -> None:
    batch = start_batch(server)
    batch.await_middle()
    deliveries = batch.deliveries()
    os.killpg(batch.client.pid, signal.SIGKILL)
    for process in deliveries:
        process.kill()
    batch.client.wait(10)
    batch.sync()
    told = check_killed(batch)
    assert sum(child.info.status == "FINISHED" for child in told.children.values()) == 8


@pytest.mark.slow
@pytest.mark.parametrize("by", ["SIGTERM to pf", "Ctrl-C"])
def test_stopped_by_its_user(start_batch: StartBatch, server: str, by: str) -> None:
    batch = start_batch(server)
    batch.await_middle()
    if by == "Ctrl-C":
        os.killpg(batch.client.pid, signal.SIGINT)
    else:
        batch.client.terminate()
    batch.release()
    batch.client.wait(60)
    check_killed(batch)


@pytest.mark.slow
def test_clock_set_back_by_an_hour(start_batch: StartBatch, server: str, tmp_path: Path) -> None:
    libfaketime = pytest.importorskip("libfaketime")
    library = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    batch = start_batch(
        server,
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        DONT_FAKE_MONOTONIC="1",
        PF_LINE_TIMEOUT_SEC="9999999",  # promptflow measures it by the clock that is set
    )
    batch.await_middle()
    (tmp_path / "set").write_text("-3600\n")
    (tmp_path / "set").replace(clock)  # at once: half of a file is no time
    batch.release()
    batch.end()
    told = check(batch)
    assert all(0 <= child.data.metrics["line_duration"] < 600 for child in told.children.values())


FAILING = ["[[status=401]]", "[[status=429]]", "[[status=400]]", "[[status=500]]", "[[hang=60]]", "[[raise=boom]]"]
USAGES = ["[[usage=none]]", "[[usage=empty]]", "[[usage=text]]", "[[usage=negative]]"]


@pytest.mark.slow
def test_every_fifth_line_fails(start_batch: StartBatch, server: str) -> None:
    kinds = [kind for failing in FAILING for kind in ("", "", failing, "", "")]
    kinds[: 5 * len(USAGES) : 5] = USAGES
    topics = [f"{kind} every fifth {number}".strip() for number, kind in enumerate(kinds)]
    batch = start_batch(server, topics, FLOWS / "edge", PF_LINE_TIMEOUT_SEC="7")
    batch.end()
    check(batch, {number for number, kind in enumerate(kinds) if kind in FAILING})


@pytest.mark.slow
def test_nodes_that_hang_in_every_worker(start_batch: StartBatch, server: str) -> None:
    topics = [f"{'[[hang=900]] ' if number % 2 else ''}hanging {number}" for number in range(8)]
    batch = start_batch(server, topics, FLOWS / "edge", PF_LINE_TIMEOUT_SEC="5")
    batch.end()
    told = check(batch, {1, 3, 5, 7})
    errors = {told.children[number].data.tags["promptflow.error_type"] for number in (1, 3, 5, 7)}
    assert errors == {"LineExecutionTimeoutError"}


@pytest.mark.slow
def test_16_workers(start_batch: StartBatch, server: str) -> None:
    topics = [f"[[latency=0.5]] sixteen {number}" for number in range(96)]
    batch = start_batch(server, topics, PF_WORKER_COUNT="16")
    batch.end()
    check(batch)


@pytest.mark.slow
def test_two_batches_at_once_into_one_store(start_batch: StartBatch, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    batches = [start_batch(uri), start_batch(uri)]
    for batch in batches:
        batch.release()
    for batch in batches:
        batch.end()
    for batch in batches:
        check(batch)
