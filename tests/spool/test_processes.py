from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from spawned import put_client, spawn

from pf_mlflow.spool.processes import client_process, end_process, is_alive, someone_works_in, started_at

SLEEP = "import sys, time; print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_process_lives_until_it_is_killed(other: subprocess.Popen[str]) -> None:
    started = started_at(psutil.Process(other.pid))
    assert is_alive(other.pid, started) and is_alive(other.pid, started + 1.0)  # the machine's start, in whole seconds
    other.kill()
    psutil.wait_procs([psutil.Process(other.pid)], timeout=0.1)
    until = time.monotonic() + 10
    while is_alive(other.pid, started):  # a zombie is not alive
        assert time.monotonic() < until
    assert not is_alive(other.pid, started)


@pytest.mark.parametrize("shift", [-1.5, 1.5, 86400.0])
def test_a_later_process_of_the_same_number_is_another_one(shift: float) -> None:
    assert not is_alive(os.getpid(), started_at(psutil.Process()) + shift)


@pytest.mark.parametrize("pid", [0, 2**22 + 1])
def test_a_number_without_a_process(pid: int) -> None:
    assert not is_alive(pid, 0.0)
    end_process(pid, 0.0)


def test_a_start_counts_from_the_machine_s(other: subprocess.Popen[str]) -> None:
    up = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None
    started = started_at(psutil.Process(other.pid))
    assert started >= started_at(psutil.Process())
    if up is not None:
        assert abs(started - up) < 60


def test_a_process_that_does_not_react_is_ended(other: subprocess.Popen[str]) -> None:
    started = started_at(psutil.Process(other.pid))
    os.kill(other.pid, signal.SIGSTOP)
    end_process(other.pid, started + 5.0)  # another one, by its start
    assert is_alive(other.pid, started)
    end_process(other.pid, started)
    assert not is_alive(other.pid, started)


ORPHAN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_ending_a_process_that_nobody_reaps_is_no_error() -> None:
    keeper = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    try:
        assert keeper.stdout
        pid = int(keeper.stdout.readline())
        started = started_at(psutil.Process(pid))
        end_process(pid, started)
        assert not is_alive(pid, started)
    finally:
        keeper.kill()
        keeper.communicate()


OPEN = "import sys, time; file = open(sys.argv[1], 'a'); print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    "place, extra, expected", [("a/b/x", (), True), ("y", (), False), ("a/x", ("--multiprocessing-fork",), False)]
)
def test_who_has_a_file_open_works_there(tmp_path: Path, place: str, extra: tuple[str, ...], expected: bool) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "own").touch()
    words = [sys.executable, "-c", OPEN, str(tmp_path / place), *extra]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline()
        with (tmp_path / "a" / "own").open():  # this process does not count
            assert someone_works_in(tmp_path / "a") == expected
    finally:
        process.kill()
        process.communicate()
    assert not someone_works_in(tmp_path / "a")


@pytest.mark.parametrize("deeper", [False, True])
def test_the_client_is_above_promptflow_s_own_children(deeper: bool) -> None:
    assert client_process().pid == os.getpid()
    queue = spawn.Queue()
    child = spawn.Process(target=put_client, args=(queue, deeper))
    child.start()
    assert queue.get(timeout=30) == os.getpid()
    child.join()


ALONE = """
import multiprocessing
from pf_mlflow.spool.processes import client_process

def work(): print(client_process().pid)

def manage():
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start(), worker.join()

if __name__ == "__main__":
    manager = multiprocessing.get_context("spawn").Process(target=manage)
    manager.start(), manager.join()
"""


@pytest.mark.parametrize(("command", "client"), [("exec {python} {script}", 1), ("{python} {script}; true", 2)])
def test_the_first_process_of_a_container_may_be_the_client(tmp_path: Path, command: str, client: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(ALONE)
    isolated = ["unshare", "-Urpf", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("needs process namespaces")
    words = [*isolated, "sh", "-c", command.format(python=sys.executable, script=script)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{client}\n"
