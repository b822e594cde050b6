"""A user's machine to run batches on, and batches as MLflow shows them afterwards."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from command_server import CommandServer
from json_schemas import check_json
from mlflow import MlflowClient
from mlflow.entities import Run

from pf_mlflow.cli import main

ROOT = Path(__file__).parent.parent
FLOWS = Path(__file__).parent / "flows"
BIN = Path(sys.executable).parent
COMMANDS = ("pf", "pf-mlflow")
SECRET = "sk-secret-0123456789abcdef"

OWN_VARIABLES = ("MLFLOW_", "PF_", "OPENAI_", "AZURE_", "OTEL_")


@dataclass
class Machine:
    """A user's machine: promptflow's home, the spool, and the folder that commands are typed in."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    server: CommandServer | None = None

    def __post_init__(self) -> None:
        home = self.folder / "promptflow"
        home.mkdir(parents=True)
        (home / "pf.yaml").write_text("telemetry:\n  enabled: 'false'\ntrace:\n  destination: none\n")
        self.cwd = self.folder / "cwd"
        self.cwd.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        self.env = kept | {
            "HOME": str(self.folder),
            "PF_HOME_DIRECTORY": str(home),
            "PF_MLFLOW_SPOOL_DIR": str(self.folder / "spool"),
            "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
            "PYTHONWARNINGS": "ignore",
            **self.env,
        }

    def command(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        call = self._call(words, cwd, env)
        if self.server and words[0] in COMMANDS:
            call["args"] = self.server.words(*call["args"])
        elif self.server and words[0] == "python" and words[1].endswith(".py"):
            call["args"] = self.server.words(*words[1:])
        done = subprocess.run(**call, capture_output=True, timeout=280)
        check_json(words, done.stdout)
        return done

    def type(self, *words: str, **env: str) -> Result:
        """Type a command of ours that runs no flow, in this process: to start one takes a second."""
        before = os.getcwd()
        os.chdir(self.cwd)
        try:
            done = CliRunner().invoke(main, words, env=self.env | {"PWD": str(self.cwd)} | env)
            check_json(words, done.stdout)
            return done
        finally:
            os.chdir(before)

    def shell(self, script: str, cwd: Path, env: dict[str, str], answers: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script in a shell whose `pf` and `pf-mlflow` start as fast as `command`."""
        if self.server:
            started = {name: shlex.join(self.server.words(str(BIN / name))) for name in COMMANDS}
            script = "".join(f'{name}() {{ {words} "$@"; }}\n' for name, words in started.items()) + script
        return subprocess.run(
            ["bash", "-c", script], cwd=cwd, env=env, input=answers, capture_output=True, text=True, timeout=280
        )

    def start(self, *words: str, cwd: Path | None = None, log: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; with a `log`, no pipe is left that its children could hold."""
        call = self._call(words, cwd, env)
        if log is None:
            return subprocess.Popen(**call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        with log.open("w") as out:
            return subprocess.Popen(**call, stdout=out, stderr=out, start_new_session=True)

    def _call(self, words: tuple[str, ...], cwd: Path | None, env: dict[str, str]) -> dict[str, Any]:
        folder = cwd or self.cwd
        program = BIN / words[0] if (BIN / words[0]).exists() else words[0]
        full = self.env | {"PWD": str(folder)} | env
        return {"args": [str(program), *words[1:]], "cwd": folder, "env": full, "text": True}

    def pf(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        done = self.command("pf", *words, cwd=cwd, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def connect(self, base_url: str, name: str = "open_ai_connection") -> None:
        connection = {"name": name, "type": "open_ai", "api_key": SECRET, "base_url": base_url}
        path = self.folder / "connection.yaml"
        schema = "https://azuremlschemas.azureedge.net/promptflow/latest/OpenAIConnection.schema.json"
        path.write_text(json.dumps(connection | {"$schema": schema}))
        self.pf("connection", "create", "--file", str(path))

    def logs(self, batch: str) -> str:
        return (self.folder / "promptflow" / ".runs" / batch / "logs.txt").read_text()

    def outputs(self, batch: str) -> list[dict[str, Any]]:
        path = self.folder / "promptflow" / ".runs" / batch / "flow_outputs" / "output.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def data(self, name: str, lines: list[dict[str, Any]]) -> Path:
        path = self.cwd / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path


@dataclass
class Tracked:
    """A batch as MLflow shows it."""

    parent: Run
    children: dict[int, Run]

    def column(self, kind: str, key: str) -> list[Any]:
        return [getattr(self.children[number].data, kind).get(key) for number in sorted(self.children)]


def await_tables(tracking_uri: str, patience: float = 30.0) -> None:
    """Wait until an SQLite store is made: a client that opens it meanwhile would make its tables too."""
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    until = time.monotonic() + patience
    while tracking_uri.startswith("sqlite") and time.monotonic() < until:
        if path.exists():
            with closing(sqlite3.connect(path)) as db, suppress(sqlite3.OperationalError):
                if db.execute("SELECT count(*) FROM experiments").fetchone()[0] > 1:
                    return
        time.sleep(0.1)


def runs_of(tracking_uri: str, batch: str) -> list[Run]:
    await_tables(tracking_uri)
    client = MlflowClient(tracking_uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(ids, f"tags.`promptflow.run_id` = '{batch}'", max_results=500, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def tracked(tracking_uri: str, batch: str, patience: float = 15.0) -> Tracked:
    """Read a batch back, waiting for its parent to end as long as users are promised to wait."""
    until = time.monotonic() + patience
    while True:
        runs = runs_of(tracking_uri, batch)
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        if parents and all(run.info.status != "RUNNING" for run in parents):
            break
        assert time.monotonic() < until, f"the parent of {batch} is not over: {parents}"
        time.sleep(0.2)
    assert len(parents) == 1, parents
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    numbers = [int(run.data.tags["promptflow.line_number"]) for run in children]
    assert len(set(numbers)) == len(numbers), f"lines with two children: {sorted(numbers)}"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parents[0].info.run_id}
    return Tracked(parents[0], dict(zip(numbers, children, strict=True)))
