"""Plain `pf` with a tracking that cannot be: the lines go on, the user is told, the records are kept."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress

import pytest
from batches import until
from fake_llm import FakeLlm
from machine import ROOT, Machine, runs_of, tracked
from mlflow import MlflowClient
from servers import CountingProxy, free_port

TOPICS = ["tea", "milk", "sugar"]


def create(machine: Machine, name: str, llm: FakeLlm | None = None, **env: str) -> str:
    """Run a batch and return its stderr; two of its lines wait until the trouble is known, if they are given a model."""
    gate = f"[[gate={name}]] " if llm else ""
    data = machine.data(name, [{"topic": f"{'' if topic == 'sugar' else gate}{topic}"} for topic in TOPICS])
    if llm:
        threading.Thread(target=open_when_troubled, args=(machine, llm, name), daemon=True).start()
    mapping = "topic=${data.topic}"
    words = ["run", "create", "--flow", str(ROOT), "--data", str(data), "--column-mapping", mapping, "--name", name]
    done = machine.pf(*words, **env)
    assert '"status": "Completed"' in done.stdout
    outputs = machine.folder / "promptflow" / ".runs" / name / "flow_outputs" / "output.jsonl"
    assert len(outputs.read_text("utf-8").splitlines()) == len(TOPICS)
    return done.stderr


def open_when_troubled(machine: Machine, llm: FakeLlm, name: str) -> None:
    with suppress(AssertionError):
        until(lambda: counted(machine, name, "batch", "told IS NOT NULL"), "the trouble is known", 60)
    llm.open_gate(name)


def counted(machine: Machine, name: str, table: str, where: str) -> int:
    """How many rows the spool has of a batch."""
    path = machine.folder / "spool" / "spool.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as spool:
        sql = f"SELECT count(*) FROM {table} WHERE json_extract(info, '$.name') = ? AND {where}"
        with suppress(sqlite3.OperationalError):  # which has no tables yet
            return int(spool.execute(sql, (name,)).fetchone()[0])
    return 0


def waiting(machine: Machine, name: str) -> int:
    return counted(machine, name, "line JOIN batch ON uid = batch_uid", "record IS NOT NULL")


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "MLFLOW_TRACKING_USERNAME"), pytest.param(403, "MLFLOW_EXPERIMENT_NAME", marks=pytest.mark.slow)],
)
def test_a_refusal_is_told_with_its_remedy(
    machine: Machine, fake_llm: FakeLlm, proxy: CountingProxy, status: int, says: str
) -> None:
    proxy.answer = status
    name = f"refused_{status}"
    stderr = create(machine, name, fake_llm, MLFLOW_TRACKING_URI=proxy.uri.replace("http://", "http://ana:hunter22@"))
    told = [line for line in stderr.splitlines() if line.startswith("pf-mlflow:")]
    assert len(told) == 1
    for word in (name, str(status), says, proxy.uri.replace("http://", "http://ana:***@")):
        assert word in told[0]
    assert says in machine.logs(name)
    kept = b"".join(path.read_bytes() for path in (machine.folder / "spool").glob("*.*"))
    assert "hunter22" not in stderr + machine.logs(name) and b"hunter22" not in kept
    assert waiting(machine, name) == len(TOPICS)


@pytest.mark.slow
def test_a_line_that_mlflow_does_not_take_is_over_told_and_counted(
    machine: Machine, fake_llm: FakeLlm, proxy: CountingProxy
) -> None:
    proxy.refused = b"sugar"
    stderr = create(machine, "not_this_one", fake_llm, MLFLOW_TRACKING_URI=proxy.uri)
    batch = tracked(proxy.uri, "not_this_one")
    assert "Line 2: " in stderr and "not this one" in stderr
    assert [child.info.status for child in batch.children.values()] == 3 * ["FINISHED"]
    assert batch.column("params", "output")[2] is None
    assert [batch.parent.data.metrics[f"lines_{kind}"] for kind in ("total", "completed")] == [3, 3]
    assert waiting(machine, "not_this_one") == 1


@pytest.mark.slow
def test_an_unreachable_server_is_told_and_the_records_kept(machine: Machine, fake_llm: FakeLlm) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    stderr = create(machine, "nowhere", fake_llm, MLFLOW_TRACKING_URI=uri, PF_MLFLOW_GIVE_UP_AFTER="1")
    told = [line for line in stderr.splitlines() if line.startswith("pf-mlflow:")]
    assert len(told) == 1 and uri in told[0] and "the records wait in the spool" in told[0]
    assert uri in machine.logs("nowhere")
    lost = "Nothing is lost: 3 lines wait in the spool."
    until(lambda: lost in machine.logs("nowhere"), "the delivery gave up", 60)
    assert waiting(machine, "nowhere") == len(TOPICS)


@pytest.mark.slow
def test_a_deleted_experiment_is_told_with_its_remedy(machine: Machine, fake_llm: FakeLlm, server: str) -> None:
    client = MlflowClient(server)
    experiment = client.create_experiment("gone")
    client.delete_experiment(experiment)
    stderr = create(machine, "into_gone", fake_llm, MLFLOW_TRACKING_URI=server, MLFLOW_EXPERIMENT_NAME="gone")
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
