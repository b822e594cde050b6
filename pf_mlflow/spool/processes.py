"""Tells processes apart and whether they still run, whatever happens to the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "client_process",
    "end_process",
    "end_session",
    "end_with_client",
    "is_alive",
    "outliving_client_by_a_line",
    "someone_works_in",
    "started_at",
]

_PATIENCE = 5.0
"""Seconds for which a process may end."""
_SAME = 1.2
"""Seconds by which two readings of one process's start may differ: the machine's own start is told in whole ones."""
_LOOK_EVERY = 2.0
"""Seconds between two looks of a worker at its client."""

_line = threading.Lock()
_watching: set[int] = set()


def started_at(process: psutil.Process) -> float:
    """Return when a process started, in seconds since the machine did: setting the clock does not move it."""
    machine = psutil.boot_time()  # first: older versions of psutil count from what they read last
    return float(process.create_time() - machine)


def is_alive(pid: int, started: float) -> bool:
    """Tell whether a process still runs, and is not a later one of the same number."""
    try:
        process = psutil.Process(pid)
        return abs(started_at(process) - started) < _SAME and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # gone, or its number is another user's by now
        return False


def end_process(pid: int, started: float) -> None:
    """Kill a process that does not react any more, and see it gone."""
    if not is_alive(pid, started):
        return
    with suppress(psutil.Error):  # gone meanwhile, or another user's
        psutil.Process(pid).kill()
        until = time.monotonic() + _PATIENCE
        while is_alive(pid, started) and time.monotonic() < until:  # in a container perhaps nobody reaps it
            time.sleep(0.01)


def end_session(leader: subprocess.Popen[Any]) -> None:
    """End a process that was started in a session of its own, and all that it started: ask first, then kill."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(leader.pid)
        tree = [top, *top.children(recursive=True)]
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(tree, _PATIENCE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    if os.name == "posix":  # what it started while it was asked
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def client_process() -> psutil.Process:
    """Return the process that runs the batch: promptflow's manager and workers are its multiprocessing children."""
    process = psutil.Process()
    while _is_multiprocessing_child(process) and (parent := process.parent()) and not _is_reaper(parent):
        process = parent
    return process


@contextmanager
def outliving_client_by_a_line() -> Iterator[None]:
    """Execute a line in a worker of promptflow's pool, which would wait for more for ever if its client is killed."""
    end_with_client()
    with _line:
        yield


def end_with_client() -> None:
    """Have this process of promptflow's pool end when its client has, after the line that it executes."""
    if os.getpid() in _watching:
        return
    _watching.add(os.getpid())
    with suppress(psutil.Error):  # its client is gone already, or hidden from this user
        client, parent = client_process(), psutil.Process().parent()
        watched = client.pid, started_at(client), parent
        threading.Thread(target=_end_with, args=watched, name="pf-mlflow-client", daemon=True).start()


def _end_with(client: int, started: float, parent: psutil.Process | None) -> None:
    while is_alive(client, started):
        time.sleep(_LOOK_EVERY)
    with _line:  # for good: no other line begins
        with suppress(psutil.Error):  # another worker was first
            if parent and _is_multiprocessing_child(parent):  # promptflow's manager
                parent.terminate()
        os._exit(1)


def _is_reaper(process: psutil.Process) -> bool:
    """Tell whether orphans are this one's children; in a container the first process may be the client itself."""
    try:
        return process.pid == 1 and process.exe() != psutil.Process().exe()
    except psutil.Error:  # another user's
        return True


def someone_works_in(folder: Path) -> bool:
    """Tell whether a process has a file in a folder open; workers that outlived their client do not count."""
    return any(_has_open(process, folder) for process in psutil.process_iter() if process.pid != psutil.Process().pid)


def _has_open(process: psutil.Process, folder: Path) -> bool:
    try:
        opened = any(folder in Path(file.path).parents for file in process.open_files())
        return opened and not _is_multiprocessing_child(process)
    except (psutil.Error, OSError):  # another user's, or gone meanwhile
        return False


def _is_multiprocessing_child(process: psutil.Process) -> bool:
    try:
        return any("--multiprocessing-fork" in word or "multiprocessing.spawn" in word for word in process.cmdline())
    except psutil.Error:  # another user's process
        return False
