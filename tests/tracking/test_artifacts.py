"""Files of runs are where MLflow looks for them, whatever folder the writing process is in."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from contextlib import closing, nullcontext
from pathlib import Path

import mlflow.artifacts
import pytest
from builders import batch
from mlflow import MlflowClient
from servers import CountingProxy

from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.run_payload import PARAM_LIMIT, TAG_LIMIT, RunPayload, length_of_whole
from pf_mlflow.tracking.writer import StoreWriter

ONE = batch(uid="files")
TEXT = "東京\r\n\ttea\n" * 2000
PATH = "long_values/output.txt"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this process is in: not the store's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(params=["plain", "büro 東京 %41#1"])
def store(request: pytest.FixtureRequest, fresh_store: Path, tmp_path: Path, elsewhere: Path) -> StoreWriter:
    folder = tmp_path / request.param
    folder.mkdir()
    shutil.copy(fresh_store, folder)
    return StoreWriter(f"sqlite:///{folder.as_posix().replace('%', '%25')}/mlflow.db", "joke-flow", tmp_path)


def folder_of(store: StoreWriter) -> Path:
    return Path(store.tracking_uri.removeprefix("sqlite:///").replace("%25", "%")).parent


@pytest.mark.parametrize("location", ["./mlruns/1", "mlruns/1"])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_an_older_store_s_are_beside_it(
    store: StoreWriter, elsewhere: Path, location: str, in_transaction: bool
) -> None:
    folder = folder_of(store)
    with closing(sqlite3.connect(folder / "mlflow.db")) as db, db:
        db.execute("UPDATE experiments SET artifact_location = ?", [location])
    store.open_experiment()
    payload = RunPayload("FINISHED", 0, 1_000, texts={PATH: TEXT})
    if in_transaction:
        with store.transaction() as runs:
            run_id = runs.create_single(ONE, 7, 100.0)
            runs.complete(run_id, payload)
    else:
        run_id = store.create_single(ONE, 7, 100.0)
        store.complete(run_id, payload)
    (file,) = folder.rglob("output.txt")
    assert file == folder / "mlruns" / "1" / run_id / "artifacts" / PATH and file.read_bytes().decode() == TEXT
    assert list(elsewhere.iterdir()) == [] and Path.cwd() == elsewhere
    reader = StoreReader(store.tracking_uri, "joke-flow", elsewhere)
    reader.open_experiment()
    assert reader.text(run_id, PATH) == TEXT.replace("\r\n", "\n")


def test_a_new_experiment_s_are_where_mlflow_puts_them_if_it_is_started_beside_the_store(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real büro").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real büro")
    uri = f"sqlite:///{tmp_path / 'link'}/ours.db"
    StoreWriter(uri, "jokes", tmp_path).open_experiment()
    assert list(elsewhere.iterdir()) == [] and Path.cwd() == elsewhere
    monkeypatch.chdir(tmp_path / "link")
    client = MlflowClient("sqlite:///theirs.db")
    client.create_experiment("jokes")
    locations = [
        {one.name: one.artifact_location for one in store.search_experiments()} for store in (client, MlflowClient(uri))
    ]
    assert locations[0] == locations[1] and locations[0].keys() == {"Default", "jokes"}


def test_mlflow_finds_them(store: StoreWriter, tmp_path: Path) -> None:
    store.open_experiment()
    run_id = store.create_single(ONE, 7, 100.0)
    store.log(run_id, RunPayload("", 0, 0, texts={PATH: TEXT, "top.txt": "a"}))
    (tmp_path / "got").mkdir()
    for path, text in {PATH: TEXT, "top.txt": "a"}.items():
        got = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=path, dst_path=str(tmp_path / "got"), tracking_uri=store.tracking_uri
        )
        assert Path(got).read_bytes().decode() == text


def unwritable(store: StoreWriter, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file of a run be kept."""
    root = {"a file is there": "./mlruns/1", "no package": "s3://bucket/1"}[fault]
    monkeypatch.setitem(sys.modules, "boto3", None)
    with closing(sqlite3.connect(folder_of(store) / "mlflow.db")) as db, db:
        db.execute("UPDATE experiments SET artifact_location = ?", [root])
    (folder_of(store) / "mlruns").write_text("a file where the folder is to be")
    store.open_experiment()


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize(
    ("fault", "why"), [("a file is there", r"\[Errno 20\] Not a directory"), ("no package", "import of boto3 halted")]
)
def test_values_are_there_without_them_and_say_so(
    store: StoreWriter, monkeypatch: pytest.MonkeyPatch, fault: str, why: str, in_transaction: bool
) -> None:
    unwritable(store, fault, monkeypatch)
    payload = RunPayload("FINISHED", 0, 1_000)
    payload.add_param("output", TEXT)
    payload.add_param("long_too", TEXT, 500)
    payload.add_param("input_topic", "tea")
    payload.add_tag("promptflow.error", TEXT)
    with store.transaction() if in_transaction else nullcontext(store) as writer:
        run_id = writer.create_single(ONE, 7, 100.0)
        writer.complete(run_id, payload)
    run = store.run(run_id).values
    assert (run.status, run.params["input_topic"]) == ("FINISHED", "tea")
    for text, limit in (
        (run.params["output"], PARAM_LIMIT),
        (run.params["long_too"], 500),
        (run.tags["promptflow.error"], TAG_LIMIT),
    ):
        assert len(text) == limit and text.startswith(TEXT[:400]) and length_of_whole(text) == len(TEXT)
        assert re.search(rf" … \[cut: {len(TEXT)} characters, whole text not kept: {why}.*\]$", text)
    assert store.lost.keys() == {run_id}
    assert re.search(f"Artifacts of MLflow at sqlite:///.*: {why}", store.lost[run_id])


def test_a_table_that_cannot_be_kept_keeps_nothing_else_back(
    store: StoreWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(store, "no package", monkeypatch)
    run_id = store.create_single(ONE, 7, 100.0)
    (tmp_path / "table.json").write_text("{}")
    store.log_table(run_id, tmp_path / "table.json")
    assert "mlflow.loggedArtifacts" not in store.run(run_id).values.tags and len(store.lost) == 1


def test_a_passing_outage_costs_no_later_text(store: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    unwritable(store, "a file is there", monkeypatch)
    payload = RunPayload("FINISHED", 0, 1_000)
    payload.add_param("output", TEXT)
    runs = [store.create_single(ONE, number, 100.0) for number in range(2)]
    store.complete(runs[0], payload)
    (folder_of(store) / "mlruns").unlink()
    store.complete(runs[1], payload)
    assert store.lost.keys() == {runs[0]} and store.text(runs[1], PATH) == TEXT.replace("\r\n", "\n")
    assert [store.run(run_id).not_kept for run_id in runs] == [{"promptflow.not_kept/output"}, set()]
    assert not store.keep_texts(runs[0], payload.texts) and not store.lost


def test_a_login_in_the_way_of_files_is_told(
    proxy: CountingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    far = StoreWriter(proxy.uri, "Default", tmp_path)
    far.open_experiment()
    run_id = far.create_single(ONE, 7, 100.0)
    proxy.redirects = 302, "/mlflow-artifacts/"
    assert "the request was redirected (302), as to a login" in far.keep_texts(run_id, {PATH: TEXT})
    proxy.redirects = None
    assert far.keep_texts(run_id, {PATH: TEXT}) == "" and far.text(run_id, PATH) == TEXT.replace("\r\n", "\n")
