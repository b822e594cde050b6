"""Plain `pf` with a tracking that cannot be: the lines go on, the user is told, the records are kept."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from machine import ROOT, Machine, runs_of, tracked
from mlflow import MlflowClient
from servers import CountingProxy, free_port

TOPICS = ["[[latency=5]] tea", "[[latency=5]] milk", "sugar"]


def create(machine: Machine, name: str, **env: str) -> str:
    data = machine.data(name, [{"topic": topic} for topic in TOPICS])
    mapping = "topic=${data.topic}"
    words = ["run", "create", "--flow", str(ROOT), "--data", str(data), "--column-mapping", mapping, "--name", name]
    done = machine.pf(*words, **env)
    assert '"status": "Completed"' in done.stdout
    outputs = machine.folder / "promptflow" / ".runs" / name / "flow_outputs" / "output.jsonl"
    assert len(outputs.read_text("utf-8").splitlines()) == len(TOPICS)
    return done.stderr


def waiting(machine: Machine, name: str) -> int:
    with closing(sqlite3.connect(machine.folder / "spool" / "spool.db")) as spool:
        sql = "SELECT count(*) FROM line, batch ON uid = batch_uid WHERE json_extract(info, '$.name') = ?"
        count: int = spool.execute(f"{sql} AND record IS NOT NULL", (name,)).fetchone()[0]
        return count


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "MLFLOW_TRACKING_USERNAME"), pytest.param(403, "MLFLOW_EXPERIMENT_NAME", marks=pytest.mark.slow)],
)
def test_a_refusal_is_told_with_its_remedy(machine: Machine, proxy: CountingProxy, status: int, says: str) -> None:
    proxy.answer = status
    name = f"refused_{status}"
    stderr = create(machine, name, MLFLOW_TRACKING_URI=proxy.uri.replace("http://", "http://ana:hunter22@"))
    told = [line for line in stderr.splitlines() if line.startswith("pf-mlflow:")]
    assert len(told) == 1
    for word in (name, str(status), says, proxy.uri.replace("http://", "http://ana:***@")):
        assert word in told[0]
    assert says in machine.logs(name)
    kept = b"".join(path.read_bytes() for path in (machine.folder / "spool").glob("*.*"))
    assert "hunter22" not in stderr + machine.logs(name) and b"hunter22" not in kept
    assert waiting(machine, name) == len(TOPICS)


@pytest.mark.slow
def test_a_line_that_mlflow_does_not_take_is_over_told_and_counted(machine: Machine, proxy: CountingProxy) -> None:
    proxy.refused = b"sugar"
    stderr = create(machine, "not_this_one", MLFLOW_TRACKING_URI=proxy.uri)
    batch = tracked(proxy.uri, "not_this_one")
    assert "Line 2: " in stderr and "not this one" in stderr
    assert [child.info.status for child in batch.children.values()] == 3 * ["FINISHED"]
    assert batch.column("params", "output")[2] is None
    assert [batch.parent.data.metrics[f"lines_{kind}"] for kind in ("total", "completed")] == [3, 3]
    assert waiting(machine, "not_this_one") == 1


def test_an_unreachable_server_is_told_and_the_records_kept(machine: Machine) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    stderr = create(machine, "nowhere", MLFLOW_TRACKING_URI=uri, PF_MLFLOW_GIVE_UP_AFTER="1")
    told = [line for line in stderr.splitlines() if line.startswith("pf-mlflow:")]
    assert len(told) == 1 and uri in told[0] and "the records wait in the spool" in told[0]
    assert uri in machine.logs("nowhere")
    until = time.monotonic() + 20
    while "Nothing is lost: 3 lines wait in the spool." not in machine.logs("nowhere"):
        assert time.monotonic() < until
        time.sleep(0.3)
    assert waiting(machine, "nowhere") == len(TOPICS)


@pytest.mark.slow
def test_a_deleted_experiment_is_told_with_its_remedy(machine: Machine, server: str) -> None:
    client = MlflowClient(server)
    experiment = client.create_experiment("gone")
    client.delete_experiment(experiment)
    stderr = create(machine, "into_gone", MLFLOW_TRACKING_URI=server, MLFLOW_EXPERIMENT_NAME="gone")
    assert f"mlflow experiments restore --experiment-id {experiment}" in stderr
    assert waiting(machine, "into_gone") == len(TOPICS)


def test_a_spool_that_cannot_be_written_fails_no_line(machine: Machine, server: str) -> None:
    blocked = machine.folder / "not a folder"
    blocked.write_text("")
    create(machine, "no_spool", MLFLOW_TRACKING_URI=server, PF_MLFLOW_SPOOL_DIR=str(blocked))
    assert "pf-mlflow: open_line" in machine.logs("no_spool")
    assert not runs_of(server, "no_spool")


@pytest.mark.slow
def test_a_wrong_setting_fails_no_line_and_is_told(machine: Machine) -> None:
    create(machine, "wrong", PF_MLFLOW_CONTENT="nonsense")
    assert "PF_MLFLOW_CONTENT='nonsense' cannot be used" in machine.logs("wrong")
