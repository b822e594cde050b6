"""What the doctor tells of an MLflow store, and that asking leaves nothing in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from batches import until
from machine import SECRET
from mlflow import MlflowClient
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.rest_store import RestStore
from servers import CountingProxy, free_port
from visitor import Visitor, commands

from pf_mlflow.doctor.store import _examined


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_a_server_that_is_down_is_started_by_what_is_printed(visitor: Visitor) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    visitor.env |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_WORKERS": "1"}
    down = visitor.doctor().one("mlflow")
    assert down.level == "error" and f"MLflow at {uri} cannot be reached" in down.message
    env = {**visitor.env, "PWD": str(visitor.cwd)}
    server = subprocess.Popen(
        ["bash", "-c", f"exec {commands(down)[0]}"],
        cwd=visitor.cwd,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: answers(uri), "the server answers")
        report = visitor.doctor()
        assert report.levels() == {} and "experiment 'jokes', made just now" in report.one("mlflow").message
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)


def test_a_refused_login_and_a_proxy_in_the_way(visitor: Visitor, proxy: CountingProxy) -> None:
    proxy.login = "ana:hunter22"
    far, nobody = "http://mlflow.invalid", f"http://ana:hunter22@127.0.0.1:{free_port()}"
    visitor.env |= {"MLFLOW_TRACKING_URI": far, "HTTP_PROXY": nobody}
    astray = visitor.doctor()
    assert astray.levels() == {"mlflow": "error"}
    assert "export NO_PROXY=mlflow.invalid" in astray.one("mlflow").remedy
    assert "the proxy of HTTP_PROXY" in astray.one("mlflow").remedy
    visitor.env["MLFLOW_TRACKING_URI"] = proxy.uri  # of this machine, which needs no proxy
    refused = visitor.doctor()
    assert refused.levels() == {"mlflow": "error"} and "answered 401" in refused.one("mlflow").message
    name, password = re.findall(r"MLFLOW_TRACKING_(?:USERNAME|PASSWORD)", refused.one("mlflow").remedy)
    visitor.env |= {name: "ana", password: "hunter22", "OPENAI_API_KEY": SECRET}
    assert visitor.doctor().levels() == {}
    for variable in (name, password):
        del visitor.env[variable]
    visitor.env["MLFLOW_TRACKING_URI"] = proxy.uri.replace("//", "//ana:wrong-word@")
    wrong = visitor.doctor()
    assert wrong.levels() == {"mlflow": "error"} and "http://ana:***@127.0.0.1" in wrong.out
    for secret in ("hunter22", "wrong-word", SECRET):
        assert secret not in astray.out + refused.out + wrong.out


@pytest.mark.parametrize(
    ("forbidden", "level", "told"),
    [
        (set(), "ok", "to which can be written; experiment 'writable'"),
        ({"experiments/set-experiment-tag", "runs/create"}, "error", "answered 403"),
        ({"experiments/create"}, "ok", "to which can be written; experiment 'writable'"),
    ],
)
def test_that_a_server_takes_runs_is_tried_and_leaves_nothing(
    proxy: CountingProxy, server: str, tmp_path: Path, forbidden: set[str], level: str, told: str
) -> None:
    client = MlflowClient(server)
    if client.get_experiment_by_name("writable") is None:
        client.create_experiment("writable")
    proxy.forbidden = forbidden
    (found,) = _examined(proxy.uri, "writable", tmp_path)
    assert found.level == level and told in found.message
    experiment = client.get_experiment_by_name("writable")
    assert experiment.tags == {} and client.search_runs([experiment.experiment_id]) == []


def test_an_old_client_writes_nothing_that_it_cannot_take_back(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = MlflowClient(server).create_experiment("old client")
    for kind in (RestStore, AbstractStore):
        monkeypatch.delattr(kind, "delete_experiment_tag")
    (found,) = _examined(server, "old client", tmp_path)
    assert found.level == "ok" and "only a batch can show" in found.message
    assert MlflowClient(server).get_experiment(number).tags == {}


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("file:///tmp/mlruns", "export MLFLOW_TRACKING_URI=sqlite:///"),
        ("mlruns", "export MLFLOW_TRACKING_URI=sqlite:///"),
        ("localhost:5000", "export MLFLOW_TRACKING_URI=http://localhost:5000"),
        ("127.0.0.1:5000", "export MLFLOW_TRACKING_URI=http://127.0.0.1:5000"),
    ],
)
def test_addresses_that_mlflow_does_not_take(tmp_path: Path, uri: str, remedy: str) -> None:
    (found,) = _examined(uri, "x", tmp_path)
    assert found.level == "error" and commands(found)[0].startswith(remedy)


def test_a_table_that_is_missing_is_made_up_for_by_mlflow(tmp_path: Path, fresh_store: Path) -> None:
    path = Path(shutil.copy(fresh_store, tmp_path))
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE spans")
    (found,) = _examined(f"sqlite:///{path}", "joke-flow", tmp_path)
    assert found.level == "ok" and "joke-flow" in found.message


def test_a_store_that_is_no_database_and_one_that_is_locked(tmp_path: Path, fresh_store: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but a text " * 9)
    (found,) = _examined(f"sqlite:///{tmp_path}/text.db", "x", tmp_path)
    assert found.level == "error" and "file is not a database" in found.message
    path = Path(shutil.copy(fresh_store, tmp_path))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        (found,) = _examined(f"sqlite:///{path}", "x", tmp_path)
    assert found.level == "warning" and "another process has been writing" in found.message
