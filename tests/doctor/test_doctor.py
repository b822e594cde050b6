"""`pf-mlflow doctor`: set-ups that are broken on purpose are named, and the remedy that is printed works when followed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from builders import batch
from finished import CREATED, finished_batch, run_info
from machine import BIN, FLOWS, SECRET, Machine
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from servers import CountingProxy, free_port

from pf_mlflow.adoption.manifest import digest
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.store import Spool


class Patient:
    """A user with a flow that is in order, on a machine that is in order; until a test breaks something."""

    def __init__(self, machine: Machine, folder: Path, store: Path) -> None:
        self.machine, self.folder = machine, folder
        self.flow = shutil.copytree(FLOWS / "public" / "basic-llm", folder / "flow")
        self.env = {"PF_MLFLOW_SPOOL_DIR": str(folder / "spool"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        self.store, self.empty_store = folder / "mlflow.db", store
        self.shell("pf-mlflow init flow --yes")

    def keep_store(self) -> str:
        """Have an MLflow store, which takes `doctor` seconds to look into, and return its URI."""
        shutil.copy(self.empty_store, self.store)
        return f"sqlite:///{self.store}"

    def shell(self, command: str) -> None:
        env = self.machine.env | self.env | {"PWD": str(self.folder)}
        done = self.machine.shell(command, self.folder, env, "y\n")
        assert done.returncode == 0, command + done.stdout + done.stderr

    def doctor(self, *words: str) -> dict[str, Any]:
        done = self.machine.command("pf-mlflow", "doctor", "flow", "--json", *words, cwd=self.folder, **self.env)
        told: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (1 if told["verdict"] == "error" else 0), done.stderr
        assert SECRET not in done.stdout + done.stderr
        return told

    def finding(self, check: str) -> dict[str, str]:
        found = [one for one in self.doctor()["checks"] if one["check"] == check]
        order = ["ok", "warning", "error"]
        return max(found, key=lambda one: order.index(one["level"]))


def commands(remedy: str) -> list[str]:
    """What stands in backticks, which may hold escaped text of several lines."""
    return re.findall(r"`([^`]+)`", remedy)


@pytest.fixture
def patient(machine: Machine, tmp_path: Path, fresh_store: Path) -> Patient:
    return Patient(machine, tmp_path, fresh_store)


def run_it(patient: Patient, remedy: str) -> None:
    """Follow a remedy: paste the first command that it names."""
    patient.shell(commands(remedy)[0])


def set_it(patient: Patient, remedy: str) -> None:
    """Follow a remedy that unsets a variable."""
    unset, name = commands(remedy)[0].split()
    assert unset == "unset"
    del patient.env[name]


def env(**values: str) -> Callable[[Patient], None]:
    return lambda patient: patient.env.update(values)


def edit(path: str, old: str, new: str) -> Callable[[Patient], None]:
    def change(patient: Patient) -> None:
        text = (patient.flow / path).read_text()
        assert old in text
        (patient.flow / path).write_text(text.replace(old, new))

    return change


def no_nodes(patient: Patient) -> None:
    patient.shell("pf-mlflow init flow --remove --yes")


def old_copy(patient: Patient) -> None:
    patient.shell("pf-mlflow init flow --vendor --yes")
    note = json.loads((patient.flow / ".pf_mlflow.json").read_text())
    path = patient.flow / "pf_mlflow.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pf_mlflow/__version__.py", '__version__ = "0.0.1"\n')
    note["files"]["pf_mlflow.zip"] = digest(path.read_bytes())
    (patient.flow / ".pf_mlflow.json").write_text(json.dumps(note))


def deleted_experiment(patient: Patient) -> None:
    patient.env["MLFLOW_TRACKING_URI"] = patient.keep_store()
    client = MlflowClient(patient.env["MLFLOW_TRACKING_URI"])
    client.delete_experiment(client.create_experiment("flow"))


def no_folder(patient: Patient) -> None:
    patient.env["MLFLOW_TRACKING_URI"] = f"sqlite:///{patient.folder}/nowhere/mlflow.db"


def outdated_store(patient: Patient) -> None:
    patient.env["MLFLOW_TRACKING_URI"] = patient.keep_store()
    config = _get_alembic_config(patient.env["MLFLOW_TRACKING_URI"])
    with closing(sqlite3.connect(patient.store)) as db:
        (newest,) = db.execute("SELECT version_num FROM alembic_version").fetchone()
    before = ScriptDirectory.from_config(config).get_revision(newest).down_revision
    command.downgrade(config, str(before))


def leftovers(patient: Patient) -> None:
    home = patient.folder / "home"
    finished_batch(home, [run_info(0)], "left")
    spool = Spool(patient.folder / "spool")
    uid, uri = batch_uid(home, "left", CREATED), patient.keep_store()
    spool.add_batch(batch(uid=uid, name="left", tracking_uri=uri, promptflow_home=str(home), client_pid=0))


def big_snapshot(patient: Patient) -> None:
    (patient.flow / "models").mkdir()
    (patient.flow / "models" / "weights.bin").write_bytes(b"\0" * 60 * 2**20)


def write_name(patient: Patient, remedy: str) -> None:
    edit("flow.dag.yaml", "- lmm", f"- {commands(remedy)[0]}")(patient)


def write_tracing(patient: Patient, remedy: str) -> None:
    edit("flow.dag.yaml", 'PF_DISABLE_TRACING: "true"', commands(remedy)[0])(patient)


NODES = "    line: ${initialize_mlflow.output}\n- name: finalize"


@pytest.mark.parametrize(
    ("broken", "check", "level", "says", "follow"),
    [
        (
            env(PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring"),
            "keyring",
            "error",
            "cannot keep connections",
            lambda patient, remedy: (
                patient.env.update(PYTHON_KEYRING_BACKEND=patient.machine.env["PYTHON_KEYRING_BACKEND"])
                if commands(remedy)[0] == "unset PYTHON_KEYRING_BACKEND"
                else pytest.fail(remedy)
            ),
        ),
        (env(PF_MLFLOW_CONTENT="some"), "settings", "error", "PF_MLFLOW_CONTENT='some'", set_it),
        (env(PF_MLFLOW_ENABLED="false"), "settings", "warning", "PF_MLFLOW_ENABLED", set_it),
        (no_nodes, "nodes", "warning", "`pf-mlflow run` takes it as it is", run_it),
        (
            lambda patient: (patient.flow / "nodes" / "finalize.py").unlink(),
            "nodes",
            "error",
            "nodes/finalize.py) is not there",
            run_it,
        ),
        (
            edit("flow.dag.yaml", NODES, NODES.replace("\n-", "\n    record_nodes:\n    - lmm\n-")),
            "nodes",
            "warning",
            "record_nodes names 'lmm'",
            write_name,
        ),
        (
            edit("flow.dag.yaml", 'PF_DISABLE_TRACING: "false"', 'PF_DISABLE_TRACING: "true"'),
            "tracing",
            "warning",
            "tracing is off",
            write_tracing,
        ),
        (old_copy, "copy", "warning", "own copy of pf_mlflow is of version 0.0.", run_it),
        (deleted_experiment, "mlflow", "error", "is deleted", run_it),
        (no_folder, "mlflow", "error", "there is no folder", run_it),
        (outdated_store, "mlflow", "error", "made by an older MLflow", run_it),
        (leftovers, "leftovers", "warning", "left", run_it),
        (big_snapshot, "snapshot", "warning", "models", run_it),
    ],
    ids=[
        "keyring",
        "setting",
        "switched off",
        "no nodes",
        "node file gone",
        "record_nodes",
        "tracing",
        "old copy",
        "experiment deleted",
        "no folder",
        "old schema",
        "leftovers",
        "snapshot",
    ],
)
def test_a_broken_set_up_is_named_and_its_remedy_works(
    patient: Patient,
    broken: Callable[[Patient], None],
    check: str,
    level: str,
    says: str,
    follow: Callable[[Patient, str], None],
) -> None:
    broken(patient)
    found = patient.finding(check)
    assert found["level"] == level and says in found["told"], found
    follow(patient, found["remedy"])
    assert patient.finding(check)["level"] == "ok", found


def test_a_connection_that_is_missing(patient: Patient, tmp_path: Path) -> None:
    patient.env["PF_HOME_DIRECTORY"] = str(tmp_path / "home")
    (tmp_path / "home").mkdir()
    found = patient.finding("connections")
    assert found["level"] == "warning" and "'open_ai_connection'" in found["told"]
    create = commands(found["remedy"])[0]
    assert create.count("<user-input>") == 1  # what promptflow asks for at a terminal
    patient.shell(create.replace("<user-input>", SECRET))
    assert patient.finding("connections")["level"] == "ok"


def test_a_server_that_is_down(patient: Patient) -> None:
    port = free_port()
    patient.env["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    found = patient.finding("mlflow")
    assert found["level"] == "error" and "cannot be reached" in found["told"]
    words = commands(found["remedy"])[0].split()
    assert words == ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]


def test_a_login_that_is_refused(patient: Patient, proxy: CountingProxy) -> None:
    proxy.login = "ana:pass-word"
    patient.env["MLFLOW_TRACKING_URI"] = proxy.uri
    found = patient.finding("mlflow")
    assert found["level"] == "error" and "401" in found["told"]
    assert "MLFLOW_TRACKING_USERNAME" in found["remedy"] and "MLFLOW_TRACKING_PASSWORD" in found["remedy"]
    patient.env |= {"MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": "pass-word"}
    told = patient.doctor()
    assert all(one["level"] == "ok" for one in told["checks"] if one["check"] == "mlflow")
    assert "pass-word" not in json.dumps(told)


def test_a_set_up_that_is_in_order(patient: Patient) -> None:
    patient.keep_store()
    told = patient.doctor()
    assert told["verdict"] == "ok" and {one["level"] for one in told["checks"]} == {"ok"}, told
    done = patient.machine.command("pf-mlflow", "doctor", "flow", cwd=patient.folder, **patient.env)
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ok ")] == [
        one["check"] for one in told["checks"]
    ]
