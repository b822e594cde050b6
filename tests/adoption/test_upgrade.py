"""A flow whose copies of our files are older than the package is told so, once."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from machine import FLOWS, Machine

from pf_mlflow import __version__
from pf_mlflow.adoption.upgrade import upgrade_notice
from pf_mlflow.cli import main

OLD_NODE = "nodes/finalize.py"


def adopted(folder: Path, vendor: bool = False) -> Path:
    flow = shutil.copytree(FLOWS / "public" / "chat", folder / "chat")
    done = CliRunner().invoke(main, ["init", str(flow), "--yes", *["--vendor"] * vendor])
    assert done.exit_code == 0, done.output
    return flow


def age(flow: Path, path: str, version: str = "0.0.9", content: bytes | None = b"# as it was\n") -> None:
    """Make one of our files what another version put there."""
    manifest = flow / ".pf_mlflow.json"
    noted = json.loads(manifest.read_text("utf-8")) | {"version": version}
    if content is not None:
        (flow / path).write_bytes(content)
        noted["files"][path] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(noted), "utf-8")


@pytest.mark.parametrize(("vendor", "path"), [(False, OLD_NODE), (True, "pf_mlflow.zip")])
def test_older_files_are_told_once_with_the_command(tmp_path: Path, vendor: bool, path: str) -> None:
    flow, spool = adopted(tmp_path, vendor), tmp_path / "spool"
    assert upgrade_notice(flow, spool) is None
    age(flow, path)
    told = upgrade_notice(flow, spool)
    assert told and path in told and "0.0.9" in told and __version__ in told and f"`pf-mlflow init {flow}`" in told
    assert upgrade_notice(flow, spool) is None
    assert CliRunner().invoke(main, ["init", str(flow), "--yes"]).exit_code == 0
    assert upgrade_notice(flow, tmp_path / "another") is None


@pytest.mark.parametrize(
    ("version", "content"),
    [("0.0.9", None), ("99.0.0", b"# of the future\n"), ("odd", b"# of nobody\n")],
    ids=["the same files", "newer", "odd"],
)
def test_nothing_is_said_where_init_has_nothing_newer(tmp_path: Path, version: str, content: bytes | None) -> None:
    flow = adopted(tmp_path)
    age(flow, OLD_NODE, version, content)
    assert upgrade_notice(flow, tmp_path / "spool") is None


def test_nothing_is_said_of_what_its_author_changed(tmp_path: Path) -> None:
    flow = adopted(tmp_path)
    age(flow, OLD_NODE)
    (flow / OLD_NODE).write_text("# mine\n")
    assert upgrade_notice(flow, tmp_path / "spool") is None


def test_run_says_it(tmp_path: Path, machine: Machine) -> None:
    flow = adopted(tmp_path)
    age(flow, OLD_NODE)
    words = ["run", "--flow", str(flow), "--data", str(tmp_path / "none.jsonl")]
    said = [machine.type(*words, PF_MLFLOW_SPOOL_DIR=str(tmp_path / "spool")).stderr for _ in range(2)]
    assert ["brings them up to date" in " ".join(one.split()) for one in said] == [True, False]
