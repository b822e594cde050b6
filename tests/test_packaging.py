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

from pf_mlflow.adoption.vendor import node_file, vendored_package

MAIN = "import sys; from pf_mlflow.cli import main; main(prog_name='pf-mlflow')"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.slow
def test_answers_are_scored_from_the_wheel(installed: Path, machine: Machine) -> None:
    env = {"PYTHONPATH": str(installed), "MLFLOW_TRACKING_URI": f"sqlite:///{machine.folder}/installed.db"}
    data = machine.data("installed", [{"answer": "Paris", "ground_truth": "paris."}])
    words = ["evaluate", "--data", str(data), "--json"]
    done = machine.command(sys.executable, "-c", MAIN, *words, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["scores"]["exact_match/v1"] == 1.0
    assert [*(machine.folder / "spool" / "flows").glob("*/eval_flow/flow.dag.yaml")]


@pytest.mark.parametrize("vendor", [False, True])
def test_init_works_from_the_wheel(installed: Path, tmp_path: Path, vendor: bool) -> None:
    flow = shutil.copytree(FLOWS / "public" / "chat", tmp_path / "chat")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PYTHONPATH": str(installed), "PWD": str(tmp_path)}
    words = [sys.executable, "-c", MAIN, "init", str(flow), "--yes", *(["--vendor"] if vendor else [])]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("initialize_mlflow", "save_mlflow_tracking", "finalize"):
        assert (flow / "nodes" / f"{name}.py").read_bytes() == node_file(name, vendor)
    first = (flow / "requirements.txt").read_text().splitlines()[0]
    assert first.startswith("promptflow>=" if vendor else "pf-mlflow>=")  # no direct_url.json: as if from an index
    assert (flow / "pf_mlflow.zip").exists() is vendor and not (flow / "pf_mlflow").exists()
    if vendor:
        assert (flow / "pf_mlflow.zip").read_bytes() == vendored_package()


def test_the_wheel_brings_the_tested_set(installed: Path) -> None:
    assert (installed / "pf_mlflow" / "flow_files" / "constraints.txt").read_bytes() == (
        ROOT / "constraints.txt"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_in_an_empty_environment(installed: Path, tmp_path: Path, machine: Machine) -> None:
    (wheel,) = installed.parent.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [scripts / "python", "-m", "pip", "--disable-pip-version-check"]
    tested = installed / "pf_mlflow" / "flow_files" / "constraints.txt"
    done = subprocess.run([*pip, "install", "--quiet", "-c", tested, wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    data = machine.data("wheel", [{"answer": "Paris", "ground_truth": "paris."}])
    flow = shutil.copytree(FLOWS / "public" / "chat", tmp_path / "chat")
    env = {name: value for name, value in machine.env.items() if name != "PYTHONPATH"}
    env |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PWD": str(tmp_path)}
    for words in (["--version"], ["init", str(flow), "--yes"], ["evaluate", "--data", str(data), "--json"]):
        typed = [scripts / "pf-mlflow", *words]
        done = subprocess.run(typed, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["scores"]["exact_match/v1"] == 1.0
