from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import mlflow.artifacts
import pytest
from builders import batch, json_text, json_values, line_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from pf_mlflow.errors import TrackingDown, TrackingError, TrackingRefused
from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.keys import readable
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.run_payload import RunPayload
from pf_mlflow.tracking.writer import StoreWriter

uids = (f"uid{number}" for number in count())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreWriter:
    folder = tmp_path_factory.mktemp("büro 東京")
    store = StoreWriter(f"sqlite:///{folder}/mlflow.db", "jokes", folder)
    store.open_experiment()
    return store


@pytest.fixture
def client(store: StoreWriter) -> MlflowClient:
    return MlflowClient(store.tracking_uri)


@pytest.fixture
def one() -> Batch:
    return batch(uid=next(uids))


def test_a_batch_and_its_lines(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    assert list(store.runs(one.uid)) == []
    parent = store.create_parent(one, "Nightly 東京", 99.0)
    children = {number: store.create_child(one, number, parent, 100.0 + number) for number in (0, 7)}
    elsewhere = batch(uid=next(uids))
    store.create_child(elsewhere, 7, store.create_parent(elsewhere, "b1", 1.0), 1.0)
    runs = list(store.runs(one.uid))
    assert [(known.run_id, known.line_number, known.parent_run_id) for known in runs] == [
        (parent, None, None),
        (children[0], 0, parent),
        (children[7], 7, parent),
    ]
    assert [store.find_child(one, number) for number in (0, 7, 8)] == [children[0], children[7], None]

    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status, run.info.start_time) == ("Nightly 東京", "RUNNING", 99_000)
    assert run.info.experiment_id == store.experiment_id
    assert "promptflow.line_number" not in run.data.tags and "mlflow.parentRunId" not in run.data.tags
    assert run.data.tags["promptflow.batch_uid"] == one.uid
    child = client.get_run(children[7])
    assert (child.info.run_name, child.info.status, child.info.start_time) == ("Run 000000007", "RUNNING", 107_000)
    assert child.info.experiment_id == store.experiment_id
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert (child.data.tags["promptflow.run_id"], child.data.tags["promptflow.line_number"]) == ("b1", "7")


def test_a_line_s_run_is_completed(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    payload = line_payload(line_record(start=100.25, end=102.5), "nightly")
    run_id = store.create_child(one, 7, store.create_parent(one, "b1", 100.0), 100.25)
    store.complete(run_id, payload)
    store.complete(run_id, payload)  # sent once more after an answer that got lost
    run = client.get_run(run_id)
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 100_250, 102_500)
    assert (run.info.run_name, run.data.params, run.data.metrics) == ("Run 000000007", payload.params, payload.metrics)
    assert run.data.tags["response_model"] == "fake-1" and run.data.tags["framework"] == "Prompt Flow"


def test_runs_come_as_mlflow_shows_them(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    payload = line_payload(line_record(start=101.0, end=102.5), "nightly")
    parent = store.create_parent(one, "b1", 100.0)
    run_id = store.create_child(one, 7, parent, 101.0)
    (_, running) = store.runs(one.uid)
    assert (running.values.status, running.is_over, running.values.params) == ("RUNNING", False, {})
    store.complete(run_id, payload)
    (_, known) = store.runs(one.uid)
    assert (known.values.status, known.values.start_ms, known.values.end_ms) == ("FINISHED", 101_000, 102_500)
    assert (known.values.params, known.values.metrics) == (payload.params, payload.metrics)
    assert known.values.tags.items() >= payload.tags.items() and known.is_complete
    assert payload.without(known.values) == RunPayload("FINISHED", 101_000, 102_500)


def test_more_runs_than_a_page_holds(store: StoreWriter, one: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pf_mlflow.tracking.reader._PAGE", 3)
    parent = store.create_parent(one, "b1", 100.0)
    children = [store.create_child(one, number, parent, 200.0 - number) for number in range(7)]
    assert [known.run_id for known in store.runs(one.uid)] == [parent, *reversed(children)]


def test_more_than_a_thousand_runs_are_read_back_whole(tmp_path: Path, fresh_store: Path, one: Batch) -> None:
    shutil.copy(fresh_store, tmp_path)
    store = StoreWriter(f"sqlite:///{tmp_path}/mlflow.db", "joke-flow", tmp_path)
    store.open_experiment()
    parent, payload = store.create_parent(one, "b1", 100.0), line_payload(line_record(), "b1")
    child, total = store.create_child(one, 0, parent, 101.0), 1001
    store.complete(child, payload)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db, db:
        for table, key in (
            ("runs", "run_uuid"),
            *((name, "run_uuid") for name in ("tags", "params", "latest_metrics")),
        ):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join("printf('%032d', n)" if name == key else f't."{name}"' for name in names)
            db.execute(
                f"WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < {total - 1}) "
                f"INSERT INTO {table} SELECT {values} FROM {table} t, c WHERE t.{key} = ?",
                (child,),
            )
    known = list(store.runs(one.uid))
    assert [run.run_id for run in known if run.line_number is None] == [parent]
    assert {run.run_id for run in known} == {parent, child, *(f"{n:032}" for n in range(1, total))}
    assert len(known) == total + 1
    assert all(run.values.params == payload.params for run in known if run.run_id != parent)


def test_deleted_runs_do_not_count(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    assert store.deleted_parent(one.uid) is None
    parent = store.create_parent(one, "b1", 100.0)
    child = store.create_child(one, 7, parent, 101.0)
    store.delete(child)
    assert store.deleted_parent(one.uid) is None
    assert [known.run_id for known in store.runs(one.uid)] == [parent] and store.find_child(one, 7) is None
    client.delete_run(parent)
    assert (store.deleted_parent(one.uid), list(store.runs(one.uid))) == (parent, [])


def test_children_move_to_another_parent(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    old, new = (store.create_parent(one, "b1", at) for at in (100.0, 101.0))
    children = [store.create_child(one, number, parent, 102.0) for number, parent in enumerate([old, new, old])]
    store.adopt_children(one.uid, new)
    assert [client.get_run(child).data.tags["mlflow.parentRunId"] for child in children] == 3 * [new]


def test_tags_that_are_not_true_any_more_go(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    run_id = store.create_parent(one, "b1", 100.0)
    store.log(run_id, RunPayload("FAILED", 0, 0, tags={"a": "1", "b": "2", "c": "3"}))
    store.drop_tags(run_id, ["a", "c"])
    assert {"a", "b", "c"} & client.get_run(run_id).data.tags.keys() == {"b"}


def test_a_single_execution_is_one_top_level_run(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    run = client.get_run(store.create_single(one, 3, 100.0))
    assert run.info.run_name == "joke-flow" and run.data.tags["promptflow.single_number"] == "3"
    assert "mlflow.parentRunId" not in run.data.tags


def test_a_dry_run_reads_and_writes_nothing(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    parent = store.create_parent(one, "b1", 100.0)
    child = store.create_child(one, 7, parent, 101.0)
    store.log(parent, RunPayload("RUNNING", 0, 0, tags={"a": "1"}))
    before = [run.to_dictionary() for run in client.search_runs([store.experiment_id])]
    dry = StoreWriter(store.tracking_uri, "jokes", store._lock_dir, dry_run=True)
    dry.open_experiment()
    assert [known.run_id for known in dry.runs(one.uid)] == [parent, child]
    assert dry.create_parent(one, "b1", 1.0) == dry.create_child(one, 8, parent, 1.0) == ""
    with dry.transaction() as runs:
        runs.complete(child, line_payload(line_record(outputs={"joke": "x" * 7000}), "b1"))
        assert runs.create_single(one, 9, 1.0) == ""
    dry.log(parent, RunPayload("RUNNING", 0, 0, {"p": "1"}))
    dry.end(parent, "FINISHED", 1)
    dry.adopt_children(one.uid, "other")
    dry.drop_tags(parent, ["a"])
    dry.delete(child)
    dry.log_table(parent, Path(__file__))
    dry.check_writable()
    assert [run.to_dictionary() for run in client.search_runs([store.experiment_id])] == before


def test_a_dry_run_makes_neither_store_nor_experiment(store: StoreWriter, client: MlflowClient, tmp_path: Path) -> None:
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", store.tracking_uri):
        dry = StoreWriter(uri, "not made", tmp_path, dry_run=True)
        dry.open_experiment()
        assert (list(dry.runs("uid")), dry.deleted_parent("uid"), dry.experiment_id) == ([], None, "")
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert client.get_experiment_by_name("not made") is None


def test_three_hundred_params_take_several_requests(store: StoreWriter, client: MlflowClient, one: Batch) -> None:
    payload = RunPayload("FAILED", 0, 1_000, metrics={f"m{n}": float(n) for n in range(300)}, tags={"t": "1"})
    for n in range(300):
        payload.add_param(f"p{n}", "😀" * 6000 if n % 10 == 0 else n)
    run_id = store.create_parent(one, "b1", 0.5)
    store.complete(run_id, payload)
    run = client.get_run(run_id)
    assert (len(run.data.params), run.data.params, run.data.metrics) == (300, payload.params, payload.metrics)
    assert (run.info.status, run.info.end_time, run.data.tags["t"]) == ("FAILED", 1_000, "1")


def test_long_values_are_artifacts_letter_for_letter(
    store: StoreWriter, client: MlflowClient, one: Batch, tmp_path: Path
) -> None:
    texts = {"output": "東京\r\n\ttea\n" * 20_000, "input_質問": "x" * 6001, "input_文脈": "y" * 6001}
    payload = RunPayload("FINISHED", 0, 1_000)
    for key, text in texts.items():
        payload.add_param(key, text)
    payload.add_tag("promptflow.error", "e" * 200_000)
    run_id = store.create_parent(one, "b1", 0.5)
    store.complete(run_id, payload)
    folder = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="long_values", dst_path=str(tmp_path), tracking_uri=store.tracking_uri
    )
    found = sorted(path.read_bytes().decode() for path in Path(folder).iterdir())
    assert found == sorted([*texts.values(), "e" * 200_000])
    run = client.get_run(run_id)
    assert all(" … [cut: " in value and len(value) == 6000 for value in run.data.params.values())
    assert len(run.data.tags["promptflow.error"]) == 5000
    assert str(Path(store.tracking_uri.removeprefix("sqlite:///")).parent) in (run.info.artifact_uri or "")


@given(st.lists(st.tuples(json_text, json_values | json_text.map(lambda text: text * 100)), max_size=20))
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
def test_what_is_read_back_is_what_was_written(store: StoreWriter, values: list[tuple[str, object]]) -> None:
    payload = RunPayload("FINISHED", 0, 1_000)
    for key, value in values:
        payload.add_param(key, value, limit=500)
    run_id = store.create_parent(batch(uid=next(uids)), "b1", 0.5)
    store.complete(run_id, payload)
    data = MlflowClient(store.tracking_uri).get_run(run_id).data
    assert data.params == payload.params and len(data.params) == len(values)
    short = [text for _, value in values if len(text := readable(value)) <= 500]
    assert set(short) <= set(data.params.values())


def test_params_are_immutable(store: StoreWriter, one: Batch) -> None:
    run_id = store.create_parent(one, "b1", 0.5)
    store.log(run_id, RunPayload("FINISHED", 0, 0, params={"output": "a"}))
    with pytest.raises(TrackingRefused, match="answered 400"):
        store.log(run_id, RunPayload("FINISHED", 0, 0, params={"output": "b"}))
    with pytest.raises(TrackingRefused, match="answered 404"):
        store.end("0" * 32, "FINISHED", 1_000)


def test_an_experiment_is_made_once_and_found_again(store: StoreWriter) -> None:
    again = StoreWriter(store.tracking_uri, "jokes", store._lock_dir)
    again.open_experiment()
    other = StoreWriter(store.tracking_uri, "jokes 2", store._lock_dir)
    other.open_experiment()
    assert again.experiment_id == store.experiment_id != other.experiment_id


def test_a_deleted_experiment_is_refused(store: StoreWriter, client: MlflowClient) -> None:
    deleted = client.create_experiment("gone")
    client.delete_experiment(deleted)
    with pytest.raises(TrackingRefused) as refusal:
        StoreWriter(store.tracking_uri, "gone", store._lock_dir).open_experiment()
    assert "The experiment 'gone' at sqlite:///" in str(refusal.value)
    assert f"mlflow experiments restore --experiment-id {deleted}" in str(refusal.value)
    client.restore_experiment(deleted)
    StoreWriter(store.tracking_uri, "gone", store._lock_dir).open_experiment()


@pytest.mark.parametrize("folder", ["missing", "a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "read-only").mkdir(mode=0o500)
    if folder == "read-only" and os.access(tmp_path / folder, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(TrackingRefused) as refusal:
        StoreWriter(f"sqlite:///{tmp_path}/{folder}/mlflow.db", "jokes", tmp_path).open_experiment()
    assert f"{str(tmp_path / folder)!r} is not a folder that you may write to" in str(refusal.value)
    assert "MLFLOW_TRACKING_URI" in str(refusal.value)
    assert not (tmp_path / "missing").exists()


def test_a_file_that_may_only_be_read_is_refused(store: StoreWriter, tmp_path: Path) -> None:
    path = Path(shutil.copy(store.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db"))
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(TrackingRefused, match=f"you may only read that file — `chmod u.w {path}`"):
        StoreWriter(f"sqlite:///{path}", "jokes", tmp_path).open_experiment()
    StoreReader(f"sqlite:///{path}", "jokes", tmp_path).open_experiment()


@pytest.mark.parametrize(
    "uri", ["foo://bar", "file:///tmp", "/tmp", "mysql+nosuchdriver://host/db", "mssql+pymssql://host/db"]
)
def test_a_store_that_mlflow_does_not_take_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingRefused):
        StoreWriter(uri, "jokes", tmp_path).open_experiment()


def test_a_relative_store_is_where_the_user_named_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    StoreWriter("sqlite:///runs/mlflow.db", "jokes", tmp_path / "spool").open_experiment()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("mlflow.db")] == ["runs/mlflow.db"]


@pytest.fixture
def copy(store: StoreWriter, tmp_path: Path) -> Path:
    shutil.copy(store.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return tmp_path / "mlflow.db"


def test_a_store_of_another_mlflow_version_is_refused(copy: Path) -> None:
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(TrackingRefused, match="mlflow db upgrade"):
        StoreWriter(f"sqlite:///{copy}", "jokes", copy.parent).open_experiment()


@pytest.mark.timeout(5)
@pytest.mark.parametrize("kind", ["note", "folder"])
def test_what_is_no_database_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        (tmp_path / "mlflow.db").mkdir()
    else:
        (tmp_path / "mlflow.db").write_text("a note to myself" * 100)
    with pytest.raises(TrackingRefused):
        StoreWriter(f"sqlite:///{tmp_path}/mlflow.db", "jokes", tmp_path).open_experiment()


CONNECT = """
import sys
from pathlib import Path
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.writer import StoreWriter
print("ready", flush=True)
sys.stdin.read()
store = StoreWriter(sys.argv[1], "jokes", Path(sys.argv[2]))
store.open_experiment()
print(store.experiment_id)
"""


def test_processes_share_one_fresh_store(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CONNECT, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0] == answers[1][0] != ""


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


DENIED = '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'
INTERNAL = '{"error_code": "INTERNAL_ERROR", "message": "the database is gone"}'


@pytest.mark.parametrize(
    "status, body, kind, sentence",
    [
        (401, "You are not authenticated.", TrackingRefused, "answered 401: "),
        (401, "You are not authenticated.", TrackingRefused, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"),
        (403, DENIED, TrackingRefused, "answered 403: PERMISSION_DENIED: Permission denied — ask for the right"),
        (400, "<html>", TrackingDown, "answered 400: "),
        (404, "<html>no MLflow here", TrackingDown, "answered 404: "),
        (429, "slow down", TrackingDown, "429"),
        (500, INTERNAL, TrackingDown, "500"),
        (503, "<html>try later", TrackingDown, "503"),
        (200, "<html>please log in", TrackingError, " at http://ana:***@127.0.0.1:"),
    ],
)
def test_what_a_server_answers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: str,
    kind: type[TrackingError],
    sentence: str,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(status, body) as host, pytest.raises(kind) as refusal:
        StoreWriter(f"http://ana:hunter22@{host}", "jokes", tmp_path).open_experiment()
    assert sentence in str(refusal.value) and f"MLflow at http://ana:***@{host} answered" in str(refusal.value)
    assert "hunter22" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(200, "") as host:
        pass
    with pytest.raises(TrackingDown) as refusal:
        StoreWriter(f"http://ana:hunter22@{host}", "jokes", tmp_path).open_experiment()
    assert f"http://ana:***@{host} cannot be reached" in str(refusal.value) and "hunter22" not in str(refusal.value)


@pytest.mark.parametrize(
    "uri, threads",
    [
        ("http://127.0.0.1:5000", 8),
        ("https://host", 8),
        ("databricks://profile", 8),
        ("azureml://x", 8),
        ("sqlite:///x", 1),
    ],
)
def test_writers_at_once(uri: str, threads: int) -> None:
    assert StoreWriter(uri, "jokes", Path()).threads == threads
