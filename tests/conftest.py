"""Real parts for the tests: a promptflow home, a model that does as told, MLflow stores of three kinds."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batches import Batch, gated
from command_server import CommandServer
from fake_llm import FakeLlm
from judge_server import JudgeServer
from machine import OWN_VARIABLES, ROOT, Machine
from servers import CountingProxy, MlflowServer, mlflow_server, postgres
from visitor import Visitor
from xdist.scheduler import LoadScopeScheduling

from pf_mlflow.tracking.writer import StoreWriter

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what `nohup` starts ignores it

_SHARES_NOTHING = ("test_faults_", "test_trouble", "test_three_ways", "test_vendor")


class _OneWorkerAFile(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one file, which share batches, stay in one worker; tests that share nothing go where there is room."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return nodeid if Path(file).name.startswith(_SHARES_NOTHING) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _OneWorkerAFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test, and what its module sets up, without settings that an earlier one or the user has left."""
    for name in [name for name in os.environ if name.startswith(OWN_VARIABLES)]:
        del os.environ[name]
    os.environ["PWD"] = os.getcwd()  # which commands of ours set for what they start


@pytest.fixture(scope="session")
def fake_llm() -> Iterator[FakeLlm]:
    llm = FakeLlm()
    yield llm
    llm.close()


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    """A server that judges as told, and a spool of the test's own."""
    monkeypatch.setenv("PF_MLFLOW_SPOOL_DIR", str(tmp_path / "spool"))
    with JudgeServer() as server:
        yield server


@pytest.fixture(scope="session")
def command_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer | None]:
    if sys.platform != "linux":  # elsewhere what libraries started does not outlive a fork
        yield None
        return
    folder = tmp_path_factory.mktemp("commands")
    server = CommandServer(folder, Machine(folder / "machine").env)
    yield server
    server.close()


@pytest.fixture(scope="session")
def machine(
    tmp_path_factory: pytest.TempPathFactory, fake_llm: FakeLlm, command_server: CommandServer | None
) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("machine"), server=command_server)
    machine.env["FAKE_LLM"] = fake_llm.base_url
    machine.connect(fake_llm.base_url)
    return machine


@pytest.fixture(scope="session")
def new_machine(
    tmp_path_factory: pytest.TempPathFactory, command_server: CommandServer | None
) -> Callable[..., Machine]:
    return lambda **env: Machine(tmp_path_factory.mktemp("machine"), env, command_server)


@pytest.fixture
def visitor(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    """Somebody with a flow that is in order, on a machine that is in order."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return Visitor(machine, tmp_path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(f"sqlite:///{folder / 'server.db'}", folder) as uri:
        yield uri


@pytest.fixture
def proxy(server: str) -> Iterator[CountingProxy]:
    with CountingProxy(server) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pgserver")
    with postgres() as database, mlflow_server(database, folder) as uri:
        yield uri


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store without runs, to be copied: to make its tables takes seconds."""
    folder = tmp_path_factory.mktemp("fresh")
    StoreWriter(f"sqlite:///{folder}/mlflow.db", "joke-flow", folder).open_experiment()
    return folder / "mlflow.db"


@pytest.fixture
def mortal_server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server of the test's own, not started yet."""
    server = MlflowServer(f"sqlite:///{tmp_path / 'server.db'}", tmp_path)
    yield server
    server.kill()


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of the Chromium that is installed."""
    browser = pytest.importorskip("browser", reason="needs Playwright")
    if not browser.installed_chromium():
        pytest.skip("needs a Chromium")
    with browser.new_page(1300, 2000) as page:
        yield page


@pytest.fixture
def start_batch(
    machine: Machine, fake_llm: FakeLlm, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Batch]]:
    """Start batches with the test's name and a spool of their own; nothing of them is left when the test is over.

    Without topics, the first eight lines are executed and the others wait for `release`.
    """
    name = re.sub(r"\W+", "_", request.node.name.removeprefix("test_")).strip("_")
    started: list[Batch] = []

    def start(uri: str, topics: list[str] | None = None, flow: Path = ROOT, **env: Any) -> Batch:
        label = f"{name}_{len(started)}"
        env = {"PF_MLFLOW_SPOOL_DIR": str(tmp_path / "spool"), **env}
        started.append(Batch.start(machine, fake_llm, label, topics or gated(label), uri, flow, **env))
        return started[-1]

    yield start
    for batch in started:
        batch.stop()
