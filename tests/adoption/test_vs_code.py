"""What promptflow's extension for VS Code issues, on this repository's flow and on one after `init`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from machine import FLOWS, ROOT, Machine, tracked

pytestmark = pytest.mark.slow

_META = """
import json, sys
from promptflow.client import PFClient
print(json.dumps(PFClient().flows._generate_tools_meta(flow=sys.argv[1], source_name=sys.argv[2] or None)))
"""
"""promptflow keeps this function for the extension: "a private interface for vscode extension"."""
OWN = {f"nodes/{name}.py" for name in ("initialize_mlflow", "save_mlflow_tracking", "finalize")}


@dataclass
class Opened:
    """A flow that is open in the editor."""

    folder: Path
    input: str
    node: str
    output: str
    prompt: str


@pytest.fixture(scope="module", params=["ours", "adopted"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> Opened:
    folder = tmp_path_factory.mktemp("opened")
    if request.param == "ours":
        flow = Opened(folder, "topic", "joke", "joke", "joke.jinja2")
        for name in ("flow.dag.yaml", "joke.jinja2", "requirements.txt", ".amlignore"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "nodes", folder / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copytree(FLOWS / "public" / "chat", folder, dirs_exist_ok=True)
        done = machine.command("pf-mlflow", "init", str(folder), "--yes")
        assert done.returncode == 0, done.stderr
        flow = Opened(folder, "question", "chat", "answer", "chat.jinja2")
    (folder / "lines.jsonl").write_text("".join(json.dumps({flow.input: one}) + "\n" for one in ("tea", "tin")))
    run = {"flow": ".", "data": "lines.jsonl", "column_mapping": {flow.input: f"${{data.{flow.input}}}"}}
    (folder / "run.yml").write_text(json.dumps(run))
    return flow


@pytest.mark.parametrize("source", ["", "nodes/finalize.py"], ids=["all", "one file"])
def test_the_editor_knows_every_node(opened: Opened, machine: Machine, source: str) -> None:
    done = machine.command("python", "-c", _META, str(opened.folder / "flow.dag.yaml"), source)
    assert done.returncode == 0, done.stderr
    meta, errors = json.loads(done.stdout.splitlines()[-1])
    assert errors == {} and set(meta["code"]) == ({source} if source else OWN | {opened.prompt})
    assert set(meta["code"]["nodes/finalize.py"]["inputs"]) == {"result", "line"}


def test_it_is_valid(opened: Opened, machine: Machine) -> None:
    machine.pf("flow", "validate", "--source", ".", cwd=opened.folder)
    tools = json.loads((opened.folder / ".promptflow" / "flow.tools.json").read_text("utf-8"))
    assert set(tools["code"]) == OWN | {opened.prompt}


def test_it_is_tested_whole_and_nothing_is_logged(opened: Opened, machine: Machine) -> None:
    done = machine.pf("flow", "test", "--flow", ".", "--inputs", f"{opened.input}=tea", cwd=opened.folder)
    assert f'"{opened.output}"' in done.stdout
    assert not (opened.folder / "mlflow.db").exists()


def test_its_nodes_are_tested_one_by_one(opened: Opened, machine: Machine) -> None:
    nodes = {
        opened.node: [f"{opened.input}=tea"],
        "initialize_mlflow": [],
        "save_mlflow_tracking": ["result=tea", "line="],
        "finalize": ["result=tea", "line="],
    }
    for node, inputs in nodes.items():
        words = ["flow", "test", "--flow", ".", "--node", node, *(["--inputs", *inputs] if inputs else [])]
        machine.pf(*words, cwd=opened.folder)


def test_a_batch_run_makes_child_runs(opened: Opened, machine: Machine) -> None:
    name = f"vs_code_{opened.node}"
    machine.pf("run", "create", "--file", "run.yml", "--name", name, "--stream", cwd=opened.folder)
    batch = tracked(f"sqlite:///{opened.folder}/mlflow.db", name, patience=60)
    assert (batch.parent.info.status, batch.column("params", f"input_{opened.input}")) == ("FINISHED", ["tea", "tin"])
