from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from builders import batch, line_record
from finished import EVALUATION_FLOW, TIMES, finished_batch, home_with, joke_call, run_info
from mlflow import MlflowClient
from servers import free_port

import pf_mlflow
from pf_mlflow.delivery import sync
from pf_mlflow.delivery.sync import Synced, SyncProgress, sync_batch, sync_batches
from pf_mlflow.errors import BadInput
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.local_batch import local_batch
from pf_mlflow.sources.promptflow.run_record import run_record
from pf_mlflow.spool.store import Spool

_NUMBER = "promptflow.line_number"


class User:
    """Somebody with a promptflow home, a spool and a store, who types `pf-mlflow sync`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.home, self.uri = folder, folder / "home", f"sqlite:///{folder}/mlflow.db"
        self.home.mkdir()
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("PF_HOME_DIRECTORY", str(self.home))
        monkeypatch.setenv("PF_MLFLOW_SPOOL_DIR", str(folder / "spool"))
        monkeypatch.setenv("PWD", str(folder))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "WARNING")
        self.spool = Spool(folder / "spool")

    def leave(self, lines: int = 3, name: str = "b1", **values: Any) -> Path:
        return finished_batch(self.home, [run_info(number, joke_call()) for number in range(lines)], name, **values)

    def sync(self, *names: str, every: bool = False, dry_run: bool = False) -> list[Synced]:
        return sync_batches(self.spool, read_settings(), names, every, dry_run, SyncProgress())

    def one(self, *names: str, dry_run: bool = False) -> Synced:
        (done,) = self.sync(*names, dry_run=dry_run)
        return done

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self, experiment: str = "joke-flow") -> list[dict[str, Any]]:
        found = self.client.get_experiment_by_name(experiment)
        runs = self.client.search_runs([found.experiment_id]) if found else []
        return sorted((run.to_dictionary() for run in runs), key=lambda run: run["data"]["tags"].get(_NUMBER, ""))

    def batch(self, name: str = "b1") -> Batch:
        return local_batch(self.home, name, run_record(self.home, name), read_settings())


@pytest.fixture
def user(fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    shutil.copy(fresh_store, tmp_path)
    return User(tmp_path, monkeypatch)


def test_a_batch_that_mlflow_knows_nothing_of(user: User) -> None:
    user.leave(3, display_name="Nightly")
    done = user.one("b1")
    assert (done.state, done.lines, done.made, done.completed, done.parent, done.trouble) == (
        "mended",
        3,
        3,
        0,
        "made",
        None,
    )
    parent, *children = user.runs()
    assert (parent["info"]["run_name"], parent["info"]["status"]) == ("Nightly", "FINISHED")
    assert (parent["info"]["run_id"], done.tracking_uri, done.experiment) == (
        done.parent_run_id,
        user.uri,
        "joke-flow",
    )
    assert parent["info"]["end_time"] - parent["info"]["start_time"] == 10_000  # promptflow's own times
    assert parent["data"]["metrics"]["total_tokens"] == 3 * 18
    assert [child["info"]["run_name"] for child in children] == [f"Run {number:09}" for number in range(3)]
    assert all(child["data"]["params"]["output"] == "Ha!" for child in children)
    assert user.sync() == []


def test_a_second_time_nothing_changes(user: User) -> None:
    user.leave(2)
    user.sync("b1")
    before = user.runs()
    for _ in range(2):
        done = user.one("b1")
        assert (done.state, done.lines, done.made, done.completed, done.removed, done.parent) == (
            "in line",
            2,
            0,
            0,
            0,
            "",
        )
    assert user.runs() == before


def test_whatever_was_damaged_is_mended(user: User) -> None:
    user.leave(4)
    user.sync("b1")
    parent, *children = user.runs()
    ids = [child["info"]["run_id"] for child in children]
    user.client.delete_run(ids[0])
    user.client.update_run(ids[1], status="RUNNING")
    tags = children[2]["data"]["tags"]
    user.client.create_run(children[2]["info"]["experiment_id"], tags=tags)
    user.client.log_metric(parent["info"]["run_id"], "lines_total", 99)
    done = user.one("b1")
    assert (done.state, done.made, done.completed, done.removed, done.parent) == ("mended", 1, 1, 1, "updated")
    mended, *others = user.runs()
    assert mended["data"]["metrics"] == parent["data"]["metrics"]
    assert [child["info"]["run_id"] for child in others][1:] == ids[1:]
    assert [child["info"]["status"] for child in others] == 4 * ["FINISHED"]
    assert user.one("b1").state == "in line"


def test_what_waits_in_the_spool_comes_before_the_folder(user: User) -> None:
    user.leave(2)
    one = user.batch()
    user.spool.add_batch(one)
    live = line_record(batch_uid=one.uid, line_number=1, run_name="b1")
    user.spool.complete_line(one.uid, 1, 100.0, live.to_json())
    done = user.one()  # without a name: whatever is left over
    assert (done.name, done.lines, done.made, user.spool.waiting(one.uid)) == ("b1", 2, 2, 0)
    _, first, second = user.runs()
    assert first["data"]["metrics"]["line_duration"] == 2.5
    assert second["info"]["start_time"] == 100_000 and second["data"]["metrics"]["duration"] == 102.0 - 100.5
    assert user.sync() == []


def test_sums_that_fall_are_shown(user: User) -> None:
    user.leave(1)
    user.spool.add_batch(one := user.batch())
    user.spool.open_line(one.uid, 7, 100.0)
    assert user.one().lines == 2
    assert user.runs()[0]["data"]["metrics"]["lines_failed"] == 1
    user.spool.complete_line(one.uid, 7, 100.0, line_record(batch_uid=one.uid, run_name="b1").to_json())
    assert (user.one("b1").parent, user.runs()[0]["data"]["metrics"]["lines_failed"]) == ("updated", 0)
    assert user.one("b1").state == "in line"


def test_a_refused_record_is_tried_again(user: User) -> None:
    user.leave(0)
    user.spool.add_batch(one := user.batch())
    live = line_record(batch_uid=one.uid, line_number=0, run_name="b1")
    user.spool.complete_line(one.uid, 0, 100.0, live.to_json())
    user.spool.refuse(one.uid, 0, "MLflow said no")
    told = user.one(dry_run=True)
    assert (told.refused, told.trouble, told.succeeded) == (1, "Line 0: MLflow said no", False)
    done = user.one()
    assert (done.made, done.refused, done.trouble, done.succeeded) == (1, 0, None, True)


def everything(folder: Path) -> dict[str, bytes]:
    """Return what stands in a folder, but for locks and what SQLite needs to read."""
    passing = (".lock", "-shm", "-wal")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not p.name.endswith(passing)
    }


def spooled(spool: Spool) -> list[Any]:
    with closing(sqlite3.connect(spool.folder / spool.FILE)) as db:
        return [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("batch", "line")]


@pytest.mark.parametrize("known", [False, True])
def test_a_dry_run_tells_and_writes_nothing(user: User, known: bool) -> None:
    folder = user.leave(3)
    if known:
        user.sync("b1")
        user.client.update_run(user.runs()[1]["info"]["run_id"], status="RUNNING")
    user.spool.add_batch(one := user.batch())
    live = line_record(batch_uid=one.uid, line_number=7, run_name="b1")
    user.spool.complete_line(one.uid, 7, 100.0, live.to_json())
    user.spool.open_line(one.uid, 8, 100.0)
    before, waiting = everything(folder.parent), spooled(user.spool)
    runs = user.runs()
    expected = (5, 2, 1) if known else (5, 5, 0)
    for _ in range(2):
        told = user.one("b1", dry_run=True)
        assert (told.state, (told.lines, told.made, told.completed)) == ("mended", expected)
    assert user.runs() == runs and everything(folder.parent) == before and spooled(user.spool) == waiting
    done = user.one("b1")
    assert (done.lines, done.made, done.completed) == expected


def test_a_dry_run_makes_no_store(user: User) -> None:
    user.leave(2)
    (user.folder / "mlflow.db").unlink()
    before = everything(user.folder).keys()
    told = user.one("b1", dry_run=True)
    assert (told.state, told.made, told.parent, told.parent_run_id) == ("mended", 2, "made", None)
    assert everything(user.folder).keys() - before <= {"spool/spool.db"}
    assert user.spool.batches_named("b1") == []


def test_a_dry_run_makes_no_experiment(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.leave(1)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert user.one("b1", dry_run=True).made == 1
    assert user.client.get_experiment_by_name("another") is None


@pytest.mark.parametrize("names", [["b2"], ["b1", "b2"]])
def test_a_name_that_nobody_knows(user: User, names: list[str]) -> None:
    user.leave(1)
    with pytest.raises(BadInput) as told:
        user.sync(*names)
    assert str(told.value) == f"There is no batch 'b2' in {user.home}; `pf run list` shows those there are."


def test_all_batches_or_those_that_were_named(user: User) -> None:
    for name, hour in (("late", 9), ("early", 5), ("mid", 7)):
        user.leave(1, name, created_on=f"2026-11-21T0{hour}:00:00+00:00")
    assert user.sync() == []
    assert [done.name for done in user.sync("mid", dry_run=True)] == ["mid"]
    assert [done.name for done in user.sync(every=True)] == ["early", "mid", "late"]
    assert [done.state for done in user.sync(every=True)] == 3 * ["in line"]


def test_a_batch_that_somebody_deleted_in_mlflow_is_left_alone(user: User) -> None:
    user.leave(2)
    user.sync("b1")
    for run in user.runs():
        user.client.delete_run(run["info"]["run_id"])
    for dry_run in (True, False):
        done = user.one("b1", dry_run=dry_run)
        assert (done.state, done.made, done.succeeded) == ("deleted", 0, True)
    assert user.runs() == []


def test_an_evaluation_is_left_alone(user: User) -> None:
    user.leave(2, "base")
    user.leave(2, "scores", dag=EVALUATION_FLOW, run="base")
    done = user.one("scores")
    assert (done.state, done.made) == ("evaluation", 0) and user.runs() == []


def test_a_batch_whose_parent_alone_was_deleted_is_left_alone_until_it_is_restored(user: User) -> None:
    user.leave(2)
    parent = user.one("b1").parent_run_id or ""
    user.client.delete_run(parent)
    before = user.runs()
    for dry_run in (True, False):
        done = user.one("b1", dry_run=dry_run)
        assert (done.state, done.parent, done.succeeded) == ("deleted", "", True)
        assert f"`mlflow runs restore --run-id {parent}`" in (done.trouble or "")
    assert user.runs() == before
    user.client.restore_run(parent)
    assert user.one("b1").state == "in line"


@pytest.mark.parametrize("damage", ["cut off", "not readable", "gone"])
def test_lines_that_promptflow_kept_but_nobody_can_read_are_told(user: User, damage: str) -> None:
    folder = user.leave(3)
    outputs = folder / "flow_outputs" / "output.jsonl"
    outputs.parent.mkdir()
    outputs.write_text("".join(f'{{"line_number": {number}, "joke": "Ha!"}}\n' for number in range(3)))
    path = folder / "flow_artifacts" / "000000001_000000001.jsonl"
    whole = path.read_text()
    path.unlink()
    if damage == "cut off":
        path.write_text(whole[:40])
    elif damage == "not readable":
        path.mkdir()
    for every, made in ((False, 2), (True, 0)):
        (done,) = user.sync(*([] if every else ["b1"]), every=every)
        assert (done.state, done.lines, done.made, done.succeeded) == ("failed", 2, made, False)
        assert f"Line 1 cannot be read in {path.parent}" in (done.trouble or "")
    if damage == "not readable":
        path.rmdir()
    path.write_text(whole)
    assert [(done.state, done.lines, done.trouble) for done in user.sync("b1")] == [("mended", 3, None)]
    assert user.one("b1").state == "in line"


def test_of_a_batch_whose_folder_is_gone_nothing_is_made(user: User) -> None:
    shutil.rmtree(folder := user.leave(2))
    (user.folder / "mlflow.db").unlink()
    for dry_run in (True, False, False):
        (done,) = user.sync(every=True, dry_run=dry_run)
        assert (done.state, done.lines, done.parent, done.succeeded) == ("failed", 0, "", False)
        assert f"promptflow's folder {folder} is gone" in (done.trouble or "")
    assert not (user.folder / "mlflow.db").exists() and user.spool.batches_named("b1") == []


def test_a_batch_that_mlflow_has_needs_no_folder_unless_lines_are_missing(user: User) -> None:
    folder = user.leave(2)
    counts = {f"__pf__.lines.{kind}": count for kind, count in (("completed", 2), ("failed", 0))}
    flow = str(user.folder / "joke-flow")
    home_with(user.home, {"output_path": str(folder), "flow_path": flow, "system_metrics": counts}, **TIMES)
    user.sync("b1")
    shutil.rmtree(folder)
    assert [(done.state, done.trouble) for done in user.sync(every=True)] == [("in line", None)]
    user.client.delete_run(user.runs()[1]["info"]["run_id"])
    done = user.one("b1")
    assert (done.state, done.lines) == ("failed", 1) and f"folder {folder} is gone" in (done.trouble or "")


OPEN = "import sys, time; file = open(sys.argv[1], 'a'); print('ready', flush=True); time.sleep(60)"


def test_a_batch_that_goes_on_is_left_alone_until_its_client_is_gone(user: User) -> None:
    folder = user.leave(2, status="Running", end_time=None)
    words = [sys.executable, "-c", OPEN, str(folder / "logs.txt")]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout and client.stdout.readline()
        assert user.one("b1").state == "running" and user.runs() == []
    finally:
        client.kill()
        client.communicate()
    done = user.one("b1")
    assert (done.state, done.made) == ("mended", 2) and user.runs()[0]["info"]["status"] == "KILLED"


@pytest.mark.parametrize("status, expected", [("Failed", "FAILED"), ("Canceled", "KILLED")])
def test_the_parent_ends_as_promptflow_says(user: User, status: str, expected: str) -> None:
    user.leave(1, status=status)
    user.one("b1")
    assert user.runs()[0]["info"]["status"] == expected


def test_a_batch_goes_where_it_went_whatever_folder_sync_is_typed_in(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.leave(2)
    user.spool.add_batch(user.batch())
    monkeypatch.setenv("PWD", str(user.home))
    done = user.one("b1")
    assert done.tracking_uri == user.uri and len(user.runs()) == 1 + 2
    assert not (user.home / "mlflow.db").exists()


def test_batches_of_one_name_are_two(user: User) -> None:
    user.leave(1)
    user.sync("b1")
    shutil.rmtree(user.home / ".runs" / "b1")
    user.leave(2, created_on="2026-11-22T00:00:00+00:00")
    assert [(done.lines, done.made) for done in user.sync("b1")] == [(1, 0), (2, 2)]
    assert len(user.runs()) == (1 + 1) + (1 + 2)


def test_without_content_no_text_reaches_mlflow(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.leave(1)
    monkeypatch.setenv("PF_MLFLOW_CONTENT", "none")
    user.one("b1")
    assert "Ha!" not in str(user.runs()) and "atom" not in str(user.runs())


def test_a_store_that_is_out_of_reach_is_told_after_a_while(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.leave(1)
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(sync, "_PATIENCE", 0.5)
    done = user.one("b1")
    assert (done.state, done.succeeded) == ("failed", False)
    assert done.trouble and f"MLflow at {uri} cannot be reached" in done.trouble and done.seconds > 0.5


HOLD = """
import sys, time
from pf_mlflow.spool.launch import lock_of
from pf_mlflow.settings import read_settings
with lock_of(read_settings().spool_dir, sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_who_delivers_the_batch_is_waited_for(user: User) -> None:
    user.leave(1)
    waits: list[str] = []

    class Watching(SyncProgress):
        def waits(self, name: str) -> None:
            waits.append(name)

    one = user.batch()
    process = subprocess.Popen([sys.executable, "-c", HOLD, one.uid], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    killed = threading.Timer(1.0, process.kill)
    killed.start()
    begun = time.monotonic()
    assert sync_batch(user.spool, one, read_settings(), False, Watching()).made == 1
    assert waits == ["b1"] and time.monotonic() - begun > 0.9
    killed.join()
    process.communicate()


def test_single_runs_that_are_left_over(user: User) -> None:
    one = batch(uid="single", name="", single=True, tracking_uri=user.uri, client_pid=2**22 + 1)
    user.spool.add_batch(one)
    user.spool.complete_line(
        "single", 0, 100.0, line_record(batch_uid="single", line_number=0, run_name="s1").to_json()
    )
    done = user.one()
    assert (done.name, done.made, done.parent) == ("", 1, "")
    (run,) = user.runs()
    assert run["data"]["tags"]["promptflow.run_id"] == "s1"


def test_what_a_flow_keeps_out_of_mlflow_stays_out_though_only_promptflow_knows_the_batch(user: User) -> None:
    secret = "TOP SECRET ANSWER"
    dag = "nodes: [{name: joke, type: llm}]\nenvironment_variables: {PF_MLFLOW_CONTENT: none}"
    info = run_info(0, joke_call(output=secret), output={"joke": secret}, inputs={"topic": secret})
    finished_batch(user.home, [info], dag=dag)
    assert user.one("b1").made == 1
    (_, line) = user.runs()
    assert line["data"]["params"]["output"] == f"<{len(secret)} characters>"
    kept = [path for path in user.folder.rglob("*") if path.is_file() and user.home not in path.parents]
    assert not [path for path in kept if secret.encode() in path.read_bytes()]


def test_an_odd_file_keeps_no_line_back(user: User) -> None:
    folder = user.leave(3)
    (folder / "flow_artifacts" / "000000004_000000004.jsonl").mkdir()
    (folder / "flow_artifacts" / "000000005_copy_000000005.jsonl").write_text("{}")
    (folder / "flow_artifacts" / "000000006_000000006.jsonl").write_bytes(b"\xff\x00[]\n7\n")
    (folder / "flow_outputs").mkdir()
    (folder / "flow_outputs" / "output.jsonl").write_text('[]\n7\n{"line_number": 0, "joke": "Ha!"}\n')
    done = user.one("b1")
    assert (done.state, done.made) == ("failed", 3)
    assert done.trouble and done.trouble.startswith(f"Lines 4, 6 cannot be read in {folder / 'flow_artifacts'}: ")


def test_an_odd_batch_is_told_and_keeps_no_other_back(user: User) -> None:
    home = home_with(user.folder / "odd", "no mapping", name="odd")
    user.spool.add_batch(batch(uid="odd", name="odd", promptflow_home=str(home), tracking_uri=user.uri))
    user.leave(2)
    user.spool.add_batch(user.batch())
    odd, good = user.sync()
    assert (odd.name, odd.state, odd.succeeded) == ("odd", "failed", False) and "AttributeError" in (odd.trouble or "")
    assert (good.name, good.state, good.made) == ("b1", "mended", 2)


def test_settings_of_one_flow_that_cannot_be_used_keep_no_other_back(user: User) -> None:
    user.leave(2)
    dag = "nodes: [{name: joke, type: llm}]\nenvironment_variables: {PF_MLFLOW_CONTENT: nothing}"
    finished_batch(user.home, [run_info(0, joke_call())], name="odd", dag=dag)
    odd, good = user.sync(every=True)
    assert (odd.name, odd.state) == ("odd", "failed") and "PF_MLFLOW_CONTENT='nothing'" in (odd.trouble or "")
    assert (good.name, good.state, good.made) == ("b1", "mended", 2)
    with pytest.raises(BadInput, match="PF_MLFLOW_CONTENT='nothing'"):
        user.sync("odd")


def test_whoever_names_no_batch_means_old_ones_and_refused_lines_too(user: User) -> None:
    for name in ("month", "refused"):
        user.leave(1, name)
        one = user.batch(name)
        user.spool.add_batch(one)
        user.spool.complete_line(one.uid, 0, 100.0, line_record(batch_uid=one.uid, line_number=0).to_json())
    user.spool._db.write(
        "UPDATE batch SET created = created - ? WHERE uid = ?", 31 * 24 * 3600, user.batch("month").uid
    )
    user.spool.refuse(one.uid, 0, "MLflow said no")
    user.spool.close_batch(one.uid, "{}")
    assert [(done.name, done.state) for done in user.sync()] == [("month", "mended"), ("refused", "mended")]
    assert user.sync() == []


def test_long_texts_that_no_file_could_keep_come_when_one_can(user: User) -> None:
    whole = "a joke " * 1000
    infos = [run_info(number, joke_call(output=f"{number} {whole}")) for number in range(2)]
    finished_batch(user.home, [*infos, run_info(2, status="Failed", error={"message": whole, "code": "UserError"})])
    (root := user.folder / "artifacts").touch()
    user.client.create_experiment("texts", artifact_location=str(root))
    user.monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "texts")
    assert (first := user.one("b1")).state == "mended" and "of 3 lines" in (first.trouble or "")
    before = user.runs("texts")
    again = user.one("b1")  # nothing has changed
    assert (again.state, user.runs("texts")) == ("in line", before) and "of 3 lines" in (again.trouble or "")
    root.unlink()
    assert (mended := user.one("b1")).completed == 3 and mended.trouble is None
    parent, *children = user.runs("texts")
    assert (parent["data"]["metrics"], parent["data"]["params"]) == tuple(
        before[0]["data"][k] for k in ("metrics", "params")
    )
    for number, child in enumerate(children[:2]):
        (path,) = (user.folder / "artifacts" / child["info"]["run_id"] / "artifacts" / "long_values").iterdir()
        assert path.name == "output.txt" and path.read_text() == f"{number} {whole}"
        assert str(child["data"]["params"]["output"]).endswith("once it is, in long_values/output.txt]")
    assert "all of them in the artifact" in children[2]["data"]["tags"]["promptflow.error"]
    assert not any("not_kept" in tag for child in children for tag in child["data"]["tags"])
    assert (user.one("b1").state, user.runs("texts")) == ("in line", [parent, *children])


def test_a_script_syncs_into_the_folder_that_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, notebooks = User(tmp_path, monkeypatch), tmp_path / "notebooks"
    notebooks.mkdir()
    monkeypatch.chdir(notebooks)  # `PWD` is where the notebook's server was started
    for variables in ("", "environment_variables: {MLFLOW_EXPERIMENT_NAME: nightly}\n"):
        user.leave(1, f"b{len(variables)}", dag=f"{variables}nodes: [{{name: joke, type: llm}}]")
        (synced,) = pf_mlflow.sync(f"b{len(variables)}", dry_run=True)
        assert synced.tracking_uri == f"sqlite:///{notebooks}/mlflow.db", synced
