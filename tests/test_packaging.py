"""What `pip install` brings, without the repository around it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from machine import FLOWS, ROOT, Machine

MAIN = "import sys; from pf_mlflow.cli import main; main(prog_name='pf-mlflow')"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def test_answers_are_scored_from_the_wheel(installed: Path, machine: Machine) -> None:
    env = {"PYTHONPATH": str(installed), "MLFLOW_TRACKING_URI": f"sqlite:///{machine.folder}/installed.db"}
    data = machine.data("installed", [{"answer": "Paris", "ground_truth": "paris."}])
    words = ["evaluate", "--data", str(data), "--json"]
    done = machine.command(sys.executable, "-c", MAIN, *words, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["scores"]["exact_match/v1"] == 1.0
    assert [*(machine.folder / "spool" / "flows").glob("*/eval_flow/flow.dag.yaml")]


def test_init_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    flow = shutil.copytree(FLOWS / "public" / "chat", tmp_path / "chat")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PYTHONPATH": str(installed), "PWD": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "init", str(flow), "--yes"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("initialize_mlflow", "save_mlflow_tracking", "finalize"):
        assert (flow / "nodes" / f"{name}.py").read_bytes() == (ROOT / "nodes" / f"{name}.py").read_bytes()
    assert (flow / "requirements.txt").read_text().startswith("promptflow>=")
    copied = {path.relative_to(flow) for path in (flow / "pf_mlflow").rglob("*.py")}
    assert copied == {path.relative_to(ROOT) for path in (ROOT / "pf_mlflow").rglob("*.py")}
