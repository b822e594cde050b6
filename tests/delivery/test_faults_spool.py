"""The spool's disk is full or cannot be written: no line fails, and `pf-mlflow sync` brings what is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from batches import Batch, check
from machine import Machine, runs_of, tracked
from servers import MlflowServer

StartBatch = Callable[..., Batch]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, with room for a copy of the package, which one from a temporary folder gets."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=8m,{options}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "ballast"
    with path.open("ab", buffering=0) as ballast:
        for size in (1 << 16, 1):
            try:
                while ballast.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return path


@pytest.mark.slow
def test_full_disk_in_the_middle_then_freed_and_synced(start_batch: StartBatch, server: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "spool", "mode=700") as folder:
        batch = start_batch(server, PF_MLFLOW_GIVE_UP_AFTER="1")
        batch.await_middle()
        ballast = fill(folder)
        batch.release()
        batch.end()
        assert "full disk" in batch.told() and "full" in batch.machine.logs(batch.name)
        batch.await_no_delivery()
        ballast.unlink()
        batch.sync()
        check(batch)


@pytest.mark.slow
def test_full_disk_in_the_middle_of_a_run_of_ours(start_batch: StartBatch, server: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "spool", "mode=700") as folder:
        batch = start_batch(server, command=("pf-mlflow", "run"), PF_MLFLOW_GIVE_UP_AFTER="1")
        batch.await_middle()
        ballast = fill(folder)
        batch.release()
        assert batch.client.wait(150) == 4
        assert "spool" in batch.log.read_text() and "pf-mlflow sync" in batch.log.read_text()
        batch.await_no_delivery()
        ballast.unlink()
        batch.sync()
        check(batch)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param("mode=700", "full disk", id="full", marks=pytest.mark.slow),
        pytest.param("ro", "cannot be written", id="read-only"),
    ],
)
def test_no_spool_at_all_then_synced_with_another(
    start_batch: StartBatch, server: str, tmp_path: Path, options: str, says: str
) -> None:
    topics = [f"[[latency=0.2]] no spool, {options}, {number}" for number in range(12)]
    with mounted(tmp_path / "spool", options) as folder:
        if options != "ro":
            fill(folder)
        batch = start_batch(server, topics)
        batch.end()
        assert says in batch.told() and "pf-mlflow sync" in batch.machine.logs(batch.name)
    batch.sync(PF_MLFLOW_SPOOL_DIR=str(tmp_path / "other"), MLFLOW_TRACKING_URI=server)
    check(batch)


@pytest.mark.slow
def test_spool_at_its_limit_while_mlflow_is_down(start_batch: StartBatch, mortal_server: MlflowServer) -> None:
    topics = [f"at the limit {number} {'x' * 40_000}" for number in range(12)]  # some 12 × 0.5 MB of records
    batch = start_batch(mortal_server.uri, topics, PF_MLFLOW_SPOOL_LIMIT="1", PF_MLFLOW_GIVE_UP_AFTER="1")
    batch.end()
    batch.await_no_delivery()
    assert "PF_MLFLOW_SPOOL_LIMIT" in batch.machine.logs(batch.name)
    assert (Path(batch.env["PF_MLFLOW_SPOOL_DIR"]) / "spool.db").stat().st_size <= 2**20
    mortal_server.start()
    batch.sync()
    children = tracked(batch.uri, batch.name).children
    assert sorted(children) == list(range(12))
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    assert all(child.data.params["input_topic"].startswith(f"at the limit {n} ") for n, child in children.items())


@pytest.mark.slow
def test_full_disk_of_promptflows_home(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "flow.flex.yaml").write_text("entry: main:main\n")
    (tmp_path / "main.py").write_text("def main(topic: str):\n    return {'joke': topic * 50_000}\n")
    data = machine.data("full_home", [{"topic": f"topic {number}"} for number in range(60)])
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with mounted(tmp_path / "home", "mode=700") as home:
        env = {"PF_HOME_DIRECTORY": str(home), "MLFLOW_TRACKING_URI": store}
        (home / "pf.yaml").write_text("telemetry:\n  enabled: 'false'\ntrace:\n  destination: none\n")
        words = ["--flow", str(tmp_path), "--data", str(data), "--name", "full_home"]
        done = machine.command("pf-mlflow", "run", *words, **env)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("Error: promptflow could not finish the batch") == 1 and "free its disk" in done.stderr
    ended = [run for run in runs_of(store, "full_home") if run.info.status == "FINISHED"]
    assert ended and all(run.data.params["output"] for run in ended)
