"""How every command speaks, whatever its terminal, its folder and its environment are like."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from desk import Desk

from pf_mlflow.cli import main
from pf_mlflow.errors import BadInput
from pf_mlflow.records.batch import command_on
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.request import RunRequest
from pf_mlflow.running.run import run_batch

SAYING = """
from pf_mlflow.cli.output import begin, out, print_json, warn
begin()
print_json("sync", {"topic": "温泉 → [red]\\ud800[/red]"})
warn("→ 温泉")
"""


def python(script: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", script], env={**os.environ, **env}, capture_output=True, timeout=60)


@pytest.mark.parametrize("env", [{"FORCE_COLOR": "1"}, {"PYTHONIOENCODING": "cp1252"}])
def test_json_is_json_and_no_sign_breaks_a_command(env: dict[str, str]) -> None:
    done = python(SAYING, **env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"schema": "pf-mlflow/sync/v1", "topic": "温泉 → [red]\ud800[/red]"}
    assert b"Warning:" in done.stderr


def test_a_folder_that_was_deleted_is_one_sentence(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    script = f"import os; os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    done = python(script + "from pf_mlflow.cli import main; main(['sync'])")
    assert done.returncode == 1 and b"is not there any more" in done.stderr and b"Traceback" not in done.stderr


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def test_a_relative_store_is_in_the_folder_of_the_command_whatever_its_starter_was_in(
    desk: Desk, tmp_path: Path, fresh_store: Path
) -> None:
    (desk.folder / "here.db").write_bytes(fresh_store.read_bytes())
    desk.leave("b1", 1)
    desk.deliver("b1", PWD=str(tmp_path), MLFLOW_TRACKING_URI="sqlite:///here.db")
    (batch,) = desk.spool.batches_named("b1")
    assert batch.tracking_uri == f"sqlite:///{desk.folder}/here.db"


@pytest.mark.parametrize("name", ["b1", "-lead", "--all", "two words"])
def test_a_command_on_a_batch_can_be_pasted_whatever_its_name(name: str) -> None:
    program, *words = shlex.split(command_on("show", name, "--failed"))
    assert program == "pf-mlflow"
    show = main.commands[words[0]]
    assert isinstance(show, click.Command)
    assert show.make_context("show", words[1:]).params == {
        "batch": name,
        "failed": True,
        "worst": None,
        "as_json": False,
    }


NO_DATABASE = b"not a database, but a text " * 200


@pytest.mark.parametrize("command", ["show", "sync", "evaluate"])
@pytest.mark.parametrize("damaged", ["home/pf.sqlite", "spool/spool.db"])
def test_what_is_damaged_is_named(desk: Desk, command: str, damaged: str) -> None:
    desk.leave("b1", 1)
    file = desk.folder / damaged
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(NO_DATABASE)
    done = desk.type(command, "b1")
    assert done.exit_code == 1 and done.stderr.count("Error:") == 1, done.output
    assert f"{file} is damaged: file is not a database" in done.stderr
    assert ("The spool" in done.stderr) is False and "free its disk" not in done.stderr


@pytest.mark.parametrize("command", ["show", "sync", "evaluate"])
def test_promptflows_database_that_cannot_be_opened_is_not_called_the_spool(desk: Desk, command: str) -> None:
    file = desk.home / "pf.sqlite"
    file.mkdir()  # as a container makes it where a file was to be mounted
    done = desk.type(command, "b1")
    assert done.exit_code == 1 and done.stderr.startswith(f"Error: {file} cannot be read: "), done.output
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("damaged", ["home/pf.sqlite", "spool/spool.db"])
def test_damage_is_noticed_before_the_first_line(desk: Desk, damaged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in desk.env.items():
        monkeypatch.setenv(name, value)
    file = desk.folder / damaged
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(NO_DATABASE)
    flow = desk.folder / "main.prompty"
    flow.write_text("---\nname: x\n---\nuser:\nhello")
    data = desk.folder / "d.jsonl"
    data.write_text('{"a": 1}\n')
    with pytest.raises(BadInput, match="is damaged: file is not a database"):
        run_batch(RunRequest(flow, data), Observer())


def test_the_experiment_of_an_id_is_where_the_runs_go(desk: Desk, fresh_store: Path) -> None:
    shutil.copy(fresh_store, desk.folder)
    chosen = desk.client.create_experiment("chosen")
    desk.leave("b1", 2)
    desk.deliver("b1", MLFLOW_TRACKING_URI=desk.uri, MLFLOW_EXPERIMENT_ID=chosen)
    assert {run.info.experiment_id for run in desk.runs("b1").values()} == {chosen} and len(desk.runs("b1")) == 3
    assert desk.type("show", "b1").exit_code == 0
    desk.leave("b2", 1)
    done = desk.type("sync", "b2", MLFLOW_TRACKING_URI=desk.uri, MLFLOW_EXPERIMENT_ID="77")
    assert done.exit_code == 1 and "no experiment of MLFLOW_EXPERIMENT_ID=77" in done.stderr, done.output
