"""A flow that carries the package as one zip, to where it is not installed."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from machine import FLOWS, ROOT, Machine, tracked

from pf_mlflow import __version__
from pf_mlflow.adoption.vendor import copied_version, node_file, vendored_package
from pf_mlflow.adoption.wiring import CALLS
from pf_mlflow.cli import main

NOT_INSTALLED = f"import sys; sys.path.remove({str(ROOT)!r}); "
IMPORTS = NOT_INSTALLED + "sys.path.append(sys.argv[1]); [__import__(name) for name in sys.argv[2:]]; "
FROM_ZIP = "assert all(sys.argv[1] in sys.modules[name].__file__ for name in sys.argv[2:])"
RUN = NOT_INSTALLED + "from promptflow._cli.pf import main; main()"


def names(package: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return archive.namelist()


def of_version(package: bytes, version: str) -> bytes:
    """The same package as if it were of another version."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(f'"{__version__}"'.encode(), f'"{version}"'.encode()))
    return content.getvalue()


def test_every_module_of_it_is_imported_with_nothing_else_of_the_package(tmp_path: Path) -> None:
    path = tmp_path / "pf_mlflow.zip"
    path.write_bytes(vendored_package())
    files = [name.removesuffix(".py") for name in names(path.read_bytes()) if name.endswith(".py")]
    modules = [name.removesuffix("/__init__").replace("/", ".") for name in files]
    assert {"pf_mlflow", "pf_mlflow.sources.live.api", "pf_mlflow.delivery.process"} <= set(modules)
    assert "pf_mlflow/scoring/syllables.txt.xz" in names(path.read_bytes())
    assert not any(name.startswith(("pf_mlflow.cli", "pf_mlflow.doctor", "pf_mlflow.running")) for name in modules)
    words = [sys.executable, "-c", IMPORTS + FROM_ZIP, str(path), *modules]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_the_same_whenever_it_is_made_and_tells_its_version(tmp_path: Path) -> None:
    path = tmp_path / "pf_mlflow.zip"
    path.write_bytes(vendored_package())
    assert vendored_package() == path.read_bytes()
    assert copied_version(path) == __version__ == copied_version(ROOT / "pf_mlflow")
    path.write_bytes(of_version(path.read_bytes(), "0.0.1"))
    assert copied_version(path) == "0.0.1"


@pytest.mark.parametrize("name", CALLS)
def test_a_node_that_finds_it_stays_short(name: str) -> None:
    plain, finds = (node_file(name, vendored).decode() for vendored in (False, True))
    assert plain == (ROOT / "nodes" / f"{name}.py").read_text("utf-8")
    assert len(finds.splitlines()) <= 20 and set(plain.splitlines()) < set(finds.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_flows_that_run_from_temporary_copies_deliver_by_their_own_versions(
    method: str, machine: Machine, tmp_path: Path
) -> None:
    public = shutil.copytree(FLOWS / "public", tmp_path / "public", symlinks=True)
    flow = public / "additional-includes"
    done = CliRunner().invoke(main, ["init", str(flow), "--vendor", "--yes"])
    assert done.exit_code == 0, done.output
    spool, uri = tmp_path / "spool", f"sqlite:///{tmp_path}/mlflow.db"
    env = {"PF_MLFLOW_SPOOL_DIR": str(spool), "MLFLOW_TRACKING_URI": uri, "PF_BATCH_METHOD": method}
    data = [json.loads(line) for line in (flow / "data.jsonl").read_text("utf-8").splitlines()]
    for version in ("0.0.1", "0.0.2"):
        (flow / "pf_mlflow.zip").write_bytes(of_version(vendored_package(), version))
        words = [
            "run",
            "create",
            "--flow",
            str(flow),
            "--data",
            str(flow / "data.jsonl"),
            "--name",
            f"{method}_{version}",
        ]
        mapping = [f"{name}=${{data.{name}}}" for name in data[0]]
        done = machine.command(
            sys.executable, "-c", RUN, *words, "--column-mapping", *mapping, cwd=tmp_path, PF_WORKER_COUNT="2", **env
        )
        assert done.returncode == 0, done.stdout + done.stderr
        batch = tracked(uri, f"{method}_{version}", 60)
        assert [child.info.status for _, child in sorted(batch.children.items())] == ["FINISHED"] * len(data)
        assert [copied_version(path) for path in spool.glob(f"packages/{version}-*/pf_mlflow.zip")] == [version]
    assert not os.listdir(spool / "packages")[2:]
