"""MLflow is down, slow or refuses while a batch runs: in the end it has each line once, and no line has failed."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from batches import Batch, check, until
from machine import runs_of, tracked
from mlflow import MlflowClient
from servers import LATE_BY, CountingProxy, MlflowServer

StartBatch = Callable[..., Batch]


@pytest.mark.slow
def test_server_comes_up_while_the_batch_runs(start_batch: StartBatch, mortal_server: MlflowServer) -> None:
    batch = start_batch(mortal_server.uri)
    batch.await_answers(4)
    mortal_server.start()
    batch.release()
    batch.end()
    check(batch)


@pytest.mark.slow
def test_server_dies_and_is_back_after_20_seconds(start_batch: StartBatch, mortal_server: MlflowServer) -> None:
    mortal_server.start()
    batch = start_batch(mortal_server.uri)
    batch.await_middle()
    mortal_server.kill()
    batch.release()
    time.sleep(20)
    mortal_server.start()
    batch.end()
    check(batch)


@pytest.mark.parametrize("syncs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_down_for_the_whole_batch_then_synced(start_batch: StartBatch, mortal_server: MlflowServer, syncs: int) -> None:
    topics = [f"[[latency=0.2]] whole outage {syncs} {number}" for number in range(12)]
    batch = start_batch(mortal_server.uri, topics, PF_MLFLOW_GIVE_UP_AFTER="1")
    batch.end()
    batch.await_no_delivery()
    mortal_server.start()
    with ThreadPoolExecutor(syncs) as pool:
        for told in [pool.submit(batch.sync) for _ in range(syncs)]:
            told.result()
    check(batch)
    before = batch.shown()
    assert batch.sync()["state"] == "in line"
    assert batch.shown() == before


@pytest.mark.slow
def test_left_over_and_delivered_with_the_next_batch(start_batch: StartBatch, mortal_server: MlflowServer) -> None:
    topics = [f"[[latency=0.2]] left over {number}" for number in range(8)]
    left = start_batch(mortal_server.uri, topics, PF_MLFLOW_GIVE_UP_AFTER="1")
    left.end()
    left.await_no_delivery()
    mortal_server.start()
    following = start_batch(mortal_server.uri, [f"[[latency=0.2]] next {number}" for number in range(4)])
    following.end()
    check(following)
    check(left)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["500", "429", "slow", "cut"])
def test_a_third_of_the_requests_goes_wrong(
    start_batch: StartBatch, server: str, proxy: CountingProxy, fault: str
) -> None:
    proxy.fault = fault
    topics = [f"[[latency=1]] {fault} now and then {number}" for number in range(12)]
    batch = start_batch(server, topics, MLFLOW_TRACKING_URI=proxy.uri)
    batch.end()
    check(batch, patience=120)
    assert proxy.faults > 5


@pytest.mark.slow
def test_sqlite_file_locked_for_15_seconds(start_batch: StartBatch, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    batch = start_batch(f"sqlite:///{path}")
    batch.await_middle()
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        batch.release()
        time.sleep(15)
        other.execute("ROLLBACK")
    batch.end()
    check(batch)


@pytest.mark.slow
def test_experiment_deleted_then_restored_and_synced(start_batch: StartBatch, server: str) -> None:
    batch = start_batch(server, MLFLOW_EXPERIMENT_NAME="deleted for a while", PF_MLFLOW_GIVE_UP_AFTER="1")
    batch.await_middle()
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("deleted for a while")
    client.delete_experiment(experiment.experiment_id)
    batch.release()
    batch.end()
    batch.await_no_delivery()
    client.restore_experiment(experiment.experiment_id)
    batch.sync()
    check(batch)


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403])
def test_credentials_expired_then_renewed_and_synced(
    start_batch: StartBatch, server: str, proxy: CountingProxy, status: int
) -> None:
    batch = start_batch(server, MLFLOW_TRACKING_URI=proxy.uri, PF_MLFLOW_GIVE_UP_AFTER="1")
    batch.await_middle()
    proxy.answer = status
    batch.release()
    batch.end()
    batch.await_no_delivery()
    proxy.answer = None
    batch.sync()
    check(batch)


@pytest.mark.slow
def test_synced_while_it_runs(start_batch: StartBatch, server: str) -> None:
    batch = start_batch(server)
    batch.await_middle()
    assert batch.sync()["state"] == "running"
    batch.release()
    batch.end()
    check(batch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parent", "line"])
def test_a_create_that_the_server_does_late_leaves_no_second_run(
    start_batch: StartBatch, server: str, proxy: CountingProxy, kind: str
) -> None:
    proxy.late[kind] = late = 3 if kind == "line" else 1
    batch = start_batch(server, MLFLOW_TRACKING_URI=proxy.uri)
    until(lambda: len(runs_of(server, batch.name)) > 0 and not proxy.late.total(), "the creates were cut off")
    time.sleep(LATE_BY)
    batch.release()
    batch.end()
    batch.await_no_delivery()
    batch.sync()
    check(batch)
    assert batch.removed() == late


@pytest.mark.slow
def test_a_proxy_answers_for_a_server_that_is_away(start_batch: StartBatch, server: str, proxy: CountingProxy) -> None:
    batch = start_batch(server, MLFLOW_TRACKING_URI=proxy.uri)
    batch.await_middle()
    proxy.answer = 404
    batch.release()
    batch.end()
    proxy.answer = None
    check(batch)


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 413, 422])
def test_a_line_that_a_proxy_does_not_let_pass(
    start_batch: StartBatch, server: str, proxy: CountingProxy, status: int
) -> None:
    proxy.refused, proxy.refusal = b"not this one", (status, b"<html>no</html>")
    topics = [f"[[latency=0.2]] {status} passes {number}" for number in range(11)]
    batch = start_batch(server, [*topics, f"[[latency=0.2]] {status} not this one"], MLFLOW_TRACKING_URI=proxy.uri)
    batch.end()
    batch.await_no_delivery()
    told = tracked(server, batch.name)
    assert f"answered {status}" in told.children[11].data.tags["promptflow.not_logged"]
    assert told.parent.data.metrics["lines_completed"] == len(batch.topics)
    proxy.refused = None
    batch.sync()
    check(batch)


@pytest.mark.slow
def test_a_proxy_that_sends_requests_twice(start_batch: StartBatch, server: str, proxy: CountingProxy) -> None:
    proxy.twice["runs/create"] = 6
    batch = start_batch(server, MLFLOW_TRACKING_URI=proxy.uri)
    batch.release()
    batch.end()
    batch.await_no_delivery()
    check(batch)
    assert batch.removed() == 6


@pytest.mark.slow
def test_artifacts_that_cannot_be_kept(start_batch: StartBatch, fresh_store: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))
    (tmp_path / "a file").touch()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE experiments SET artifact_location = ?", [str(tmp_path / "a file" / "1")])
    topics = [f"[[latency=0.2]] artifacts {number}{' x' * 3500 * (number == 3)}" for number in range(4)]
    batch = start_batch(f"sqlite:///{path}", topics, MLFLOW_EXPERIMENT_NAME="joke-flow")
    batch.end()
    batch.await_no_delivery()
    children = tracked(batch.uri, batch.name).children
    assert [children[number].data.params["output"] for number in range(3)] == [f"a joke about {t}" for t in topics[:3]]
    assert "characters, whole text not kept: [Errno 20] Not a directory" in children[3].data.params["output"]
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    assert "Artifacts of MLflow" in batch.machine.logs(batch.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("UPDATE alembic_version SET version_num = 'c3d9e7f1a2b4'; DROP TABLE spans", "mlflow db upgrade"),
        ("DROP TABLE experiments", "not MLflow's"),
    ],
)
def test_a_database_that_is_not_this_mlflows_then_replaced_and_synced(
    start_batch: StartBatch, fresh_store: Path, tmp_path: Path, spoil: str, says: str
) -> None:
    path = Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(spoil)
    before = path.read_bytes()
    batch = start_batch(f"sqlite:///{path}", [f"[[latency=0.2]] {says} {number}" for number in range(6)])
    batch.end()
    batch.await_no_delivery()
    assert says in batch.machine.logs(batch.name) and path.read_bytes() == before
    shutil.copy(fresh_store, path)
    batch.sync()
    check(batch)


@pytest.mark.slow
def test_a_damaged_leftover_beside_a_good_one(start_batch: StartBatch, mortal_server: MlflowServer) -> None:
    left = []
    for kind in ("damaged", "good"):
        topics = [f"[[latency=0.2]] left {kind} {number}" for number in range(4)]
        left.append(start_batch(mortal_server.uri, topics, PF_MLFLOW_GIVE_UP_AFTER="1"))
        left[-1].end()
        left[-1].await_no_delivery()
    with closing(sqlite3.connect(Path(left[0].env["PF_MLFLOW_SPOOL_DIR"]) / "spool.db")) as db, db:
        db.execute("UPDATE line SET record = '[]' WHERE batch_uid = (SELECT uid FROM batch ORDER BY created LIMIT 1)")
    mortal_server.start()
    following = start_batch(mortal_server.uri, [f"[[latency=0.2]] next {number}" for number in range(4)])
    following.end()
    check(following)
    check(left[1])
