"""A batch below a run of the user's: the active one of a script, or the one that is named; refused where none can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from machine import FLOWS, Machine, runs_of
from mlflow import MlflowClient
from mlflow.entities import Run

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.writer import StoreWriter

FLEX = FLOWS / "plain_flex"
PARENT = "mlflow.parentRunId"
SCRIPT = """
import json, mlflow, pf_mlflow
from pf_mlflow.errors import TrackingRefused

def run(name, **more):
    done = pf_mlflow.run({flow!r}, [{{"kind": "none"}}, {{"kind": "list"}}], name=name, **more)
    assert done.status == "Completed" and done.delivered, done
    return done.parent_run_id

mlflow.set_tracking_uri({uri!r})
mlflow.set_experiment("mine")
with mlflow.start_run() as mine:
    made = {{"mine": mine.info.run_id, "below": run("below"), "beside": run("beside", parent_run="")}}
    scored = pf_mlflow.evaluate(data=[{{"answer": "tea"}}, {{"answer": "milk"}}], metrics="answer_length", name="answers")
    made["answers"] = scored.parent_run_id
made["outside"] = run("outside")
made["named"] = run("named", parent_run=made["mine"])
with mlflow.start_run(experiment_id="0"):
    try:
        run("elsewhere")
    except TrackingRefused as refusal:
        made["refusal"] = str(refusal)
print(json.dumps(made))
"""


def children(runs: list[Run], parent: str) -> list[str]:
    return sorted(run.data.tags["promptflow.line_number"] for run in runs if run.data.tags.get(PARENT) == parent)


@pytest.fixture(scope="module")
def uri(machine: Machine, fresh_store: Path) -> str:
    (machine.folder / "below.db").write_bytes(fresh_store.read_bytes())
    return f"sqlite:///{machine.folder}/below.db"


@pytest.fixture(scope="module")
def made(machine: Machine, uri: str) -> dict[str, str]:
    script = machine.folder / "below.py"
    script.write_text(SCRIPT.format(flow=str(FLEX), uri=uri))
    done = machine.command("python", str(script))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("batch", "is_below"), [("below", True), ("beside", False), ("outside", False), ("named", True)]
)
def test_a_batch_is_below_the_active_run(made: dict[str, str], uri: str, batch: str, is_below: bool) -> None:
    runs = runs_of(uri, batch)
    (parent,) = [run for run in runs if run.data.params.get("flow")]
    assert parent.info.run_id == made[batch]
    assert parent.data.tags.get(PARENT) == (made["mine"] if is_below else None)
    assert children(runs, made[batch]) == ["0", "1"]
    assert parent.info.experiment_id == MlflowClient(uri).get_run(made["mine"]).info.experiment_id


def test_commands_take_such_a_batch_as_any(machine: Machine, made: dict[str, str], uri: str) -> None:
    env = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "mine"}
    shown = json.loads(machine.type("show", "below", "--json", **env).stdout)
    assert (shown["parent_run_id"], shown["lines_completed"], shown["runs_twice"]) == (made["below"], 2, 0)
    before = {run.info.run_id: run.data.tags.get(PARENT) for run in runs_of(uri, "below")}
    synced = json.loads(machine.type("sync", "below", "--json", **env).stdout)
    assert [one["state"] for one in synced["batches"]] == ["in line"]
    assert {run.info.run_id: run.data.tags.get(PARENT) for run in runs_of(uri, "below")} == before


def test_strays_come_below_the_batch_and_the_batch_stays_below_its_own(
    machine: Machine, made: dict[str, str], uri: str
) -> None:
    """A parent that was made twice leaves lines below the other one."""
    client = MlflowClient(uri)
    runs = runs_of(uri, "named")
    stray = next(run for run in runs if run.data.tags.get("promptflow.line_number") == "1")
    client.set_tag(stray.info.run_id, PARENT, "0" * 32)
    done = machine.type("sync", "named", MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME="mine")
    assert done.exit_code == 0, done.stderr
    runs = runs_of(uri, "named")
    assert children(runs, made["named"]) == ["0", "1"]
    assert client.get_run(made["named"]).data.tags[PARENT] == made["mine"]


def test_a_run_elsewhere_is_refused_before_the_first_line(made: dict[str, str], uri: str) -> None:
    assert "It is in the experiment 'Default' and the batch goes to" in made["refusal"]
    assert "set MLFLOW_EXPERIMENT_NAME=Default" in made["refusal"] and "\n" not in made["refusal"]
    assert runs_of(uri, "elsewhere") == []


def test_a_run_that_cannot_be_one(made: dict[str, str], uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    store = StoreReader(uri, "mine", tmp_path)
    store.open()
    store.check_outer_run(made["mine"])
    gone = client.create_run(client.get_run(made["mine"]).info.experiment_id).info.run_id
    client.delete_run(gone)
    for run_id, says in ((32 * "0", "has no such run"), (gone, f"`mlflow runs restore --run-id {gone}`")):
        with pytest.raises(TrackingRefused, match=says):
            store.check_outer_run(run_id)
    with pytest.raises(TrackingRefused, match="goes to 'other'.*set MLFLOW_EXPERIMENT_NAME=mine"):
        other = StoreWriter(uri, "other", tmp_path)
        other.open()
        other.check_outer_run(made["mine"])
    assert client.get_experiment_by_name("other") is None


def test_the_command_refuses_it_too(machine: Machine, made: dict[str, str], uri: str) -> None:
    data = machine.data("nowhere", [{"kind": "none"}])
    words = ["run", "--flow", str(FLEX), "--data", str(data), "--name", "nowhere", "--parent-run", 32 * "0"]
    done = machine.command("pf-mlflow", *words, MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME="mine")
    assert done.returncode == 1 and "no batch can be put below the run" in done.stderr, done.stderr
    assert "name another with --parent-run" in done.stderr and runs_of(uri, "nowhere") == []
