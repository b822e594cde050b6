"""What `pip install` brings, without the repository around it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from machine import FLOWS, ROOT

MAIN = "import sys; from pf_mlflow.cli import main; main(prog_name='pf-mlflow')"


def test_init_works_from_the_wheel(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    flow = shutil.copytree(FLOWS / "public" / "chat", tmp_path / "chat")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PYTHONPATH": str(tmp_path / "installed"), "PWD": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "init", str(flow), "--yes"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("initialize_mlflow", "save_mlflow_tracking", "finalize"):
        assert (flow / "nodes" / f"{name}.py").read_bytes() == (ROOT / "nodes" / f"{name}.py").read_bytes()
    assert (flow / "requirements.txt").read_text().startswith("promptflow>=")
    copied = {path.relative_to(flow) for path in (flow / "pf_mlflow").rglob("*.py")}
    assert copied == {path.relative_to(ROOT) for path in (ROOT / "pf_mlflow").rglob("*.py")}
