"""What the benchmarks are made of: a folder whose processes end with it, servers, and the flow without our nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import yaml
from machine import ROOT
from servers import mlflow_server

__all__ = ["bare_flow", "end_processes", "own_folder", "server", "serving", "working_in"]


@contextmanager
def own_folder() -> Iterator[Path]:
    """Yield a new folder; end what still works in it, then remove it."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        yield folder
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def end_processes(folder: Path, patience: float = 0.0) -> bool:
    """Wait until no process works in a folder, kill those that still do; tell whether all ended by themselves."""
    until = time.monotonic() + patience
    while working := working_in(folder):
        if time.monotonic() >= until:
            for process in working:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(working, timeout=10)
            return False
        time.sleep(0.1)
    return True


def working_in(folder: Path) -> list[psutil.Process]:
    """Return the processes that were started in a folder or with it: delivery processes, servers and their workers."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in mine and _works_in(process, str(folder))]


def _works_in(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return f"{process.cwd()}/".startswith(f"{folder}/") or any(folder in word for word in process.cmdline())
    except psutil.Error:  # gone, or not ours
        return False


@contextmanager
def serving(what: str, *words: str) -> Iterator[str]:
    """Yield the address of a server of `benchmarks.serve`."""
    command = [sys.executable, "-m", "benchmarks.serve", what, *words]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Yield the address of an `mlflow server` on an SQLite file, `server.db` in the folder."""
    folder.mkdir()
    try:
        with mlflow_server(f"sqlite:///{folder / 'server.db'}", folder) as uri:
            yield uri
    finally:
        end_processes(folder)


def bare_flow(folder: Path, traced: bool = True) -> Path:
    """Return this project's flow with its LLM node alone, and all else as it is, tracing included or not."""
    folder.mkdir()
    dag = yaml.safe_load((ROOT / "flow.dag.yaml").read_text("utf-8"))
    if not traced:
        del dag["environment_variables"]
    dag["nodes"] = [node for node in dag["nodes"] if node["name"] == "joke"]
    dag["outputs"] = {"joke": {"type": "string", "reference": "${joke.output}"}}
    (folder / "flow.dag.yaml").write_text(json.dumps(dag), "utf-8")
    shutil.copy(ROOT / "joke.jinja2", folder)
    shutil.copy(ROOT / "requirements.txt", folder)
    return folder
