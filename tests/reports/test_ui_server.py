"""`pf-mlflow ui`: the real command, the pages that it serves, and what is left when it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from batches import until
from builders import batch
from desk import Desk
from finished import EVALUATION_FLOW, joke_call, run_info
from machine import BIN
from servers import free_port

from pf_mlflow.reports import ui_server as ui
from pf_mlflow.spool.processes import end_session

LONG = "y" * 7000
VIEW = "viewStateShareKey=pf_mlflow_batches"
WORKSPACE = "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    shutil.copy(fresh_store, desk.folder)
    desk.leave("jokes", [run_info(0, joke_call(output=LONG)), run_info(1, joke_call())], display_name="Nightly jokes")
    desk.leave("scores", dag=EVALUATION_FLOW, run="jokes")
    with closing(sqlite3.connect(desk.folder / "mlflow.db")) as db, db:  # as older MLflows make it
        db.execute("UPDATE experiments SET artifact_location = './mlruns/1'")
    desk.deliver()
    return desk


class Running:
    """`pf-mlflow ui` while it runs, what it printed so far, and its processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""

    def read(self, end: str) -> str:
        assert self.process.stdout
        while not self.printed.endswith(end):
            row = self.process.stdout.readline()
            assert row, self.printed
            self.printed += row
        return self.printed

    def link(self) -> str:
        self.read("Ctrl-C ends it.\n")
        return re.findall(r"^Look at: (.*)$", self.printed, re.MULTILINE)[0]

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, by: int = signal.SIGINT) -> int:
        self.process.send_signal(by)
        return self.process.wait(30)


@contextmanager
def running(desk: Desk, *words: str, folder: Path, **env: str) -> Iterator[Running]:
    full = os.environ | desk.env | {"PWD": str(folder)} | env
    command = [BIN / "pf-mlflow", "ui", *words]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=full,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Running(process)
    finally:
        end_session(process)
        process.communicate()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def served(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The batch's pages, opened from a folder that has nothing to do with it; and what the command printed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    port = free_port()
    with running(desk, "jokes", "--port", str(port), "--no-browser", folder=folder) as command:
        link = command.link()
        assert {process.cmdline()[2] for process in command.tree()} == {"mlflow", "uvicorn"}
        assert not any(desk.uri in word for process in command.tree() for word in process.cmdline())
        yield link, command.printed
        tree = command.tree()
        assert command.end() == 0
        assert is_free(port) and not any(process.is_running() for process in tree)
        assert not list(folder.iterdir())


def test_the_batch_is_shown_from_any_folder(desk: Desk, served: tuple[str, str]) -> None:
    link, printed = served
    info = desk.runs("jokes")[""].info
    base, page = link.split("/#/")
    assert page == f"experiments/{info.experiment_id}/runs?{VIEW}"
    assert printed == f"MLflow:  {desk.uri}, batch jokes\nLook at: {link}\nCtrl-C ends it.\n"
    assert "<title>MLflow</title>" in fetch(base)
    told = json.loads(fetch(f"{base}/api/2.0/mlflow/runs/get?run_id={info.run_id}"))
    assert told["run"]["info"]["run_name"] == "Nightly jokes"


def test_artifacts_can_be_read(desk: Desk, served: tuple[str, str]) -> None:
    run_id = desk.runs("jokes")["0"].info.run_id
    base = served[0].split("/#/")[0]
    path = f"get-artifact?path=long_values/output.txt&run_uuid={run_id}"
    assert fetch(f"{base}/{path}") == LONG


def test_a_port_that_is_taken(desk: Desk, served: tuple[str, str]) -> None:
    port = re.findall(r":(\d+)/#", served[0])[0]
    done = desk.type("ui", "jokes", "--port", port, "--no-browser")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"Error: Port {port} cannot be used: Address already in use; name another with --port." in done.stderr


def test_a_browser_shows_the_run(served: tuple[str, str], page: Any) -> None:
    page.goto(served[0])
    page.get_by_text("Nightly jokes").first.wait_for()


def test_the_store_of_this_folder_on_the_next_free_port(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as well
            taken.bind(("127.0.0.1", ui.DEFAULT_PORT))
            taken.listen()
        with running(desk, "--no-browser", folder=desk.folder) as command:
            link = command.link()
            assert "Port 5000 is taken, so it is 500" in command.printed
            base, page = link.split("#/")
            assert page == f"experiments/{desk.runs('jokes')[''].info.experiment_id}/runs?{VIEW}"
            assert re.fullmatch(r"http://127\.0\.0\.1:500[1-9]/", base) and "batch " not in command.printed
            assert "<title>MLflow</title>" in fetch(base)
            tree = command.tree()
            assert command.end(signal.SIGTERM) == 0
            assert not any(process.is_running() for process in tree)


@pytest.mark.parametrize("seconds", [0, 0.3, 2])
def test_ctrl_c_before_the_server_answers(desk: Desk, seconds: float) -> None:
    with running(desk, "jokes", "--port", str(free_port()), folder=desk.folder) as command:
        command.read("batch jokes\n")
        until(command.tree, "the server starts", 20)
        time.sleep(seconds)
        tree = command.tree()
        assert command.end() == 0
        assert not any(process.is_running() for process in tree)
        assert not list(_of_session(tree[0].pid))


def _of_session(leader: int) -> Iterator[psutil.Process]:
    """The processes of a session, also those that lost their parent."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def test_a_server_is_only_linked_and_the_browser_opened(desk: Desk, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/opened\n")
    browser.chmod(0o755)
    env = {"MLFLOW_TRACKING_URI": "https://ana:secret@ml.example/mlflow", "BROWSER": str(browser)}
    with running(desk, folder=tmp_path, **env) as command:
        assert command.process.wait(30) == 0 and command.process.stdout
        printed = command.process.stdout.read()
    assert printed == "MLflow:  https://ana:***@ml.example/mlflow\nLook at: https://ml.example/mlflow/\n"
    until((tmp_path / "opened").exists, "the browser is started", 10)
    assert (tmp_path / "opened").read_text() == "https://ml.example/mlflow/\n"


@pytest.mark.parametrize(
    "uri, link",
    [
        ("http://ml.example:5000/", f"http://ml.example:5000/#/experiments/3/runs?{VIEW}"),
        (
            f"azureml://eastus.api.azureml.ms/mlflow/v1.0{WORKSPACE}",
            "https://ml.azure.com/runs/abc?wsid=/subscriptions/s-1/resourceGroups/rg/workspaces/ws",
        ),
        ("databricks", "https://dbc.example/ml/experiments/3/runs/abc"),
    ],
)
@pytest.mark.parametrize("words", [["far"], []])
def test_the_newest_batch_or_the_named_one(tmp_path: Path, uri: str, link: str, words: list[str]) -> None:
    desk = Desk(tmp_path / "desk")
    desk.spool.add_batch(batch(uid="1", name="older", tracking_uri="http://elsewhere.example"))
    desk.spool.add_batch(batch(uid="2", name="far", tracking_uri=uri))
    desk.spool.set_parent("2", "abc", "3")
    done = desk.type("ui", *words, "--no-browser", DATABRICKS_HOST="dbc.example")
    assert (done.exit_code, done.stdout) == (0, f"MLflow:  {uri}, batch far\nLook at: {link}\n")


@pytest.mark.parametrize(
    "words, uri, says",
    [
        (["nobody"], "", "There is no batch 'nobody'"),
        ([], "", "There is nothing to show: no batch has run yet, and there is no mlflow.db in {0}/desk; "),
        ([], "sqlite:///{0}/gone.db", "sqlite:///{0}/gone.db does not exist; "),
        (
            [],
            "sqlite:///{0}/text.db",
            "MLflow cannot use sqlite:///{0}/text.db: file is not a database — let ",
        ),
        ([], "postgresql+psycopg://ana:secret@127.0.0.1:9/db", "ana:***@127.0.0.1:9/db cannot be reached"),
        ([], "nonsense", "MLflow takes no runs at nonsense"),
        ([], "databricks://nobody", "The pages of databricks://nobody are not known; set DATABRICKS_HOST"),
    ],
)
def test_what_cannot_be_shown(tmp_path: Path, words: list[str], uri: str, says: str) -> None:
    (tmp_path / "text.db").write_text("this is no database, however long it may be" * 100)
    env = {"MLFLOW_TRACKING_URI": uri.format(tmp_path)} if uri else {}
    done = Desk(tmp_path / "desk").type("ui", *words, "--no-browser", **env)
    assert done.exit_code == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.output
    assert says.format(tmp_path) in done.stderr and "secret" not in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"text.db", "desk"}


def test_a_store_that_mlflow_does_not_take(tmp_path: Path, fresh_store: Path) -> None:
    desk = Desk(tmp_path / "desk")
    shutil.copy(fresh_store, desk.folder)
    with closing(sqlite3.connect(desk.folder / "mlflow.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    done = desk.type("ui", "--no-browser", "--port", str(free_port()), MLFLOW_TRACKING_URI=desk.uri)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"The tables of {desk.uri} were made by an older MLflow" in done.stderr and "db upgrade" in done.stderr, (
        done.stderr
    )


def test_an_evaluation_has_no_run_of_its_own(desk: Desk) -> None:
    with running(desk, "scores", "--no-browser", "--port", str(free_port()), folder=desk.folder) as command:
        assert command.link().endswith("/") and "MLflow has no run of scores" in command.printed


@pytest.mark.parametrize("words", [["a", "b"], ["--port", "0"], ["--port", "x"]])
def test_a_wrong_command_line(desk: Desk, words: list[str]) -> None:
    assert desk.type("ui", *words).exit_code == 2
