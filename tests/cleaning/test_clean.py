"""What `pf-mlflow clean` takes away, and above all what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import batch
from desk import Desk
from finished import EVALUATION_FLOW, joke_call, run_info
from machine import Machine

from pf_mlflow.sources.promptflow.private_names import stored_connections
from pf_mlflow.sources.promptflow.run_record import run_records
from pf_mlflow.spool.launch import lock_of
from pf_mlflow.spool.processes import started_at
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.run_payload import NOT_KEPT

NOW = ("--older-than", "0h")
_CONNECT = """
from promptflow.client import PFClient
from promptflow.entities import OpenAIConnection
for name in {names}:
    PFClient().connections.create_or_update(OpenAIConnection(name=name, api_key="k"))
"""
_MONTH = 31 * 24 * 3600.0


@pytest.fixture
def desk(fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(fresh_store.read_bytes())
    for name, value in desk.env.items():
        monkeypatch.setenv(name, value)
    return desk


def cleaned(desk: Desk, *words: str, code: int = 0) -> dict[str, Any]:
    done = desk.type("clean", *words, "--json")
    assert done.exit_code == code, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def cleaned_by_command(machine: Machine, desk: Desk, *words: str) -> dict[str, Any]:
    """Clean in a process of its own, since promptflow's home is one for the whole of a process."""
    done = machine.command("pf-mlflow", "clean", *words, "--json", cwd=desk.folder, **desk.env)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def names(told: dict[str, Any], kind: str) -> set[str]:
    return {one["name"] for one in told["removed"] if one["kind"] == kind}


def fill(spool: Spool, megabytes: int) -> None:
    """Let lines come and go."""
    spool.add_batch(batch())
    for number in range(megabytes):
        spool.complete_line("uid", number, 100.0, "x" * 2**20)
    spool.settle("uid", {}, [(one.line_number, one.seq) for one in spool.completed("uid")])


def test_the_spool_gives_its_disk_back(desk: Desk) -> None:
    fill(desk.spool, 8)
    desk.spool.close_batch("uid", "{}")
    fill(desk.spool, 8)
    desk.spool.close_batch("uid", "{}")
    desk.spool._db.write("CREATE TABLE filler AS SELECT randomblob(4000000)")
    desk.spool._db.write("DROP TABLE filler")
    before = desk.spool.size()
    (spool,) = cleaned(desk, "--dry-run")["removed"]
    assert (spool["kind"], before - spool["size"] < 2**20, desk.spool.size()) == ("spool", True, before)
    told = cleaned(desk)
    assert told["size"] == before - desk.spool.size() and desk.spool.size() < 2**20 < before
    assert desk.spool.batch("uid") and cleaned(desk)["removed"] == []


@pytest.mark.parametrize("delivered", [True, False], ids=["delivered", "running"])
def test_the_spool_is_left_alone_while_a_batch_uses_it(desk: Desk, delivered: bool) -> None:
    desk.spool.add_batch(batch(uid="other"))
    desk.spool.close_batch("other", "{}")
    log = desk.spool.folder / "delivery.log"
    log.write_text("trouble")
    os.utime(log, (0, 0))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as client:
        import psutil

        lives = (
            {} if delivered else {"client_pid": client.pid, "client_started": started_at(psutil.Process(client.pid))}
        )
        desk.spool.add_batch(batch(**lives))
        lock = lock_of(desk.spool.folder, "uid")
        if delivered:
            lock.acquire()
        try:
            told = cleaned(desk, *NOW)
        finally:
            lock.release()
            client.communicate(b"\n")
    assert (told["removed"], log.exists()) == ([], True)
    assert "the batch b1 is using it" in told["kept"][0]["why"]
    assert names(cleaned(desk, *NOW), "log") == {str(log)}  # what waits does not use it


def test_old_logs_and_copies_of_other_versions_go(desk: Desk) -> None:
    fill(desk.spool, 1)
    folder = desk.spool.folder
    files = {
        "delivery.log": True,
        "packages/0.0.1-ab/pf_mlflow/a.py": True,
        "flows/0.0.1/eval_flow/flow.dag.yaml": True,
    }
    from pf_mlflow.__version__ import __version__

    files |= {f"packages/{__version__}-cd/pf_mlflow/a.py": False, "verdicts.db": False}
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("something")
    cleaned(desk)
    assert all((folder / name).exists() for name in files)
    old = time.time() - _MONTH
    for path in sorted(folder.rglob("*")):
        if path.name != "spool.db":
            os.utime(path, (old, old))
    cleaned(desk)
    assert {name: not (folder / name).exists() for name in files} == files


@pytest.mark.slow
def test_connections_of_killed_commands_go(machine: Machine, desk: Desk) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, live = f"pf_mlflow_{gone.pid}", f"pf_mlflow_{os.getpid()}"
    done = machine.command("python", "-c", _CONNECT.format(names=[stale, live, "mine"]), **desk.env)
    assert done.returncode == 0, done.stderr
    assert names(cleaned(desk, "--dry-run"), "connection") == {stale}
    assert names(cleaned_by_command(machine, desk), "connection") == {stale}
    assert set(stored_connections(desk.home)) == {live, "mine"}


def test_only_batches_that_mlflow_has_all_of_would_go(desk: Desk) -> None:
    lines = [run_info(number, joke_call()) for number in range(2)]
    for name in ("whole", "lacking", "deleted", "image", "base", "cut", "needed"):
        desk.leave(name, lines)
    desk.leave("unseen", lines, run="needed")
    desk.leave("young", lines, end_time=f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}+00:00")
    desk.leave("hidden", lines)
    desk.deliver("whole", "lacking", "deleted", "image", "base", "young", "cut", "needed")
    desk.deliver("hidden", PF_MLFLOW_CONTENT="none")
    desk.leave("scores", [run_info(0)], dag=EVALUATION_FLOW, run="base")
    desk.client.delete_run(desk.runs("lacking")["1"].info.run_id)
    for run in desk.runs("deleted").values():
        desk.client.delete_run(run.info.run_id)
    cut = desk.runs("cut")["0"].info.run_id
    desk.client.set_tag(cut, f"{NOT_KEPT}output", "no file")
    picture = desk.home / ".runs" / "image" / "flow_outputs" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes(b"png")
    with_nothing_said = cleaned(desk, *NOW)
    assert not [one for one in with_nothing_said["removed"] if one["kind"] == "batch"]
    told = cleaned(desk, "--older-than", "1h", "--batches", "--dry-run")
    why = {one["name"]: one["why"] for one in told["kept"]}
    assert names(told, "batch") == {"whole", "base"}, why
    assert "an evaluation" in why["scores"] and why["needed"] == "the batch unseen needs it"
    assert "younger" in why["young"] and "a.png" in why["image"] and "deleted in MLflow" in why["deleted"]
    assert "sync" in why["lacking"] and "sync" in why["unseen"] and "kept out" in why["hidden"]


@pytest.mark.slow
def test_a_batch_goes_with_record_and_folder_and_mlflow_still_shows_it(machine: Machine, desk: Desk) -> None:
    for name in ("whole", "unseen"):
        desk.leave(name)
    desk.deliver("whole")
    told = cleaned_by_command(machine, desk, "--batches", "--older-than", "1h")
    assert names(told, "batch") == {"whole"} and told["size"] > 0
    assert {one.name for one in run_records(desk.home)} == {"unseen"}
    assert {path.name for path in (desk.home / ".runs").iterdir()} == {"unseen"}
    assert desk.type("show", "whole").exit_code == 0


@pytest.mark.parametrize("age", ["30", "d", "-1d", "3m", ""])
def test_an_age_that_is_none_is_said(desk: Desk, age: str) -> None:
    done = desk.type("clean", "--older-than", age)
    assert done.exit_code == 2 and "12h, 30d or 2w" in done.output
