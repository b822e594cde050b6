"""What the doctor tells of the spool, of what is left over in it, and of delivery processes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from batches import until
from builders import batch, line_record
from finished import CREATED, finished_batch
from servers import CountingProxy
from visitor import Visitor, commands

from pf_mlflow.doctor.spool import check_delivery, check_leftovers, check_spool
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.launch import HUNG_AFTER, start_delivery
from pf_mlflow.spool.processes import end_process, is_alive
from pf_mlflow.spool.store import Spool


@pytest.fixture
def left(visitor: Visitor, proxy: CountingProxy, tmp_path: Path) -> Iterator[Spool]:
    """A spool with three lines of a batch that is over, for a server that answers 500."""
    proxy.answer = 500
    home = tmp_path / "home"
    finished_batch(home, [])
    visitor.env |= {"PF_HOME_DIRECTORY": str(home), "MLFLOW_TRACKING_URI": proxy.uri, "MLFLOW_EXPERIMENT_NAME": "left"}
    (home / "pf.yaml").write_text("telemetry: {enabled: 'false'}\n")
    spool = Spool(Path(visitor.env["PF_MLFLOW_SPOOL_DIR"]))
    uid = batch_uid(home, "b1", CREATED)
    one = batch(uid=uid, tracking_uri=proxy.uri, experiment="left", promptflow_home=str(home), client_pid=0)
    spool.add_batch(one)
    for number in range(3):
        kept = line_record(batch_uid=uid, line_number=number)
        spool.complete_line(uid, number, 100.0, kept.to_json())
    yield spool
    if (row := spool.state(uid)) and row.owner_pid:
        end_process(row.owner_pid, row.owner_started or 0.0)


def test_lines_that_mlflow_refused_are_named(visitor: Visitor, left: Spool) -> None:
    (uid,) = (one.uid for one in left.leftovers())
    for number in range(3):
        left.refuse(uid, number, "MLflow answered 400: not this one.")
    left.close_batch(uid, "{}")
    (found,) = check_leftovers(visitor.setup())
    assert found.level == "warning" and commands(found) == ["pf-mlflow sync b1"]
    assert found.message == "MLflow did not take 3 lines of batch b1: MLflow answered 400: not this one"


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the process is stopped")


def test_a_process_that_delivers_that_is_stopped_and_that_hangs(
    visitor: Visitor, left: Spool, proxy: CountingProxy
) -> None:
    (uid,) = (one.uid for one in left.leftovers())
    visitor.setup()
    start_delivery(left.folder, uid)
    until(lambda: (row := left.state(uid)) and row.trouble, "the process tells that MLflow is down")
    row = left.state(uid)
    assert row
    pid, started = row.owner_pid, row.owner_started
    (found,) = check_delivery(visitor.setup())
    assert found.level == "warning" and f"process {pid} delivers batch b1, 3 lines wait: " in found.message

    stop(pid)
    (found,) = check_delivery(visitor.setup())
    assert found.level == "error" and commands(found) == [f"kill -CONT {pid}"]
    visitor.follow(found)
    (found,) = check_delivery(visitor.setup())
    assert found.level == "warning"

    stop(pid)
    left.beat(uid, pid, started, time.monotonic() - 2 * HUNG_AFTER)
    proxy.answer = None
    report = visitor.doctor()
    assert report.levels() == {"connections": "warning", "delivery": "error"}
    delivery = report.one("delivery")
    assert re.fullmatch(
        rf"the process {pid} .* batch b1 has shown no sign of life for 60\d s; 3 lines wait", delivery.message
    )
    visitor.follow(delivery)
    assert not is_alive(pid, started)
    assert visitor.doctor().levels() == {"connections": "warning"}


def test_the_spool_itself(visitor: Visitor, left: Spool) -> None:
    assert [one.level for one in check_spool(visitor.setup())] == ["ok"]
    (uid,) = (one.uid for one in left.leftovers())
    for number in range(10):
        left.complete_line(uid, number, 100.0, "x" * 100_000)
    visitor.env["PF_MLFLOW_SPOOL_LIMIT"] = "1"
    (full,) = check_spool(visitor.setup())
    assert full.level in ("warning", "error") and "of 1 MiB" in full.message
    visitor.type(commands(full)[1])
    assert [one.level for one in check_spool(visitor.setup())] == ["ok"]
    file = left.folder / "spool.db"
    for rest in left.folder.glob("spool.db-*"):
        rest.unlink()
    file.write_text("no database at all, but a text " * 9)
    (broken,) = check_spool(visitor.setup())
    assert broken.level == "error" and "file is not a database" in broken.message
    visitor.follow(broken)
    assert [one.level for one in check_spool(visitor.setup())] == ["ok"]
