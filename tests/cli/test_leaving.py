"""The end of a command comes at once, and what was to happen at the end happens."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import atexit, sys, threading, time
from pf_mlflow.cli.leaving import leave_at_once

class TakenDown:
    def __del__(self): sys.stderr.write("taken down")

kept = TakenDown()
def work(): time.sleep(0.5); print("thread ended")
"""
AT_EXIT = "atexit.register(print, 'at exit'); "
THREAD = "threading.Thread(target=work).start(); "
DAEMON = "threading.Thread(target=work, daemon=True).start(); "
END = "print('printed'); leave_at_once(3); sys.exit(3)"


@pytest.mark.parametrize(
    "script, printed, is_taken_down",
    [
        (AT_EXIT, ["printed", "at exit"], False),
        (THREAD, ["printed", "thread ended"], True),
        (AT_EXIT + THREAD, ["printed", "thread ended", "at exit"], True),
        (DAEMON, ["printed"], False),
    ],
)
def test_leaves_at_once_unless_a_thread_must_be_waited_for(
    script: str, printed: list[str], is_taken_down: bool
) -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + script + END], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (3, printed)
    assert ("taken down" in done.stderr) is is_taken_down


def test_threads_that_were_given_up_are_not_waited_for() -> None:
    end = "leave_at_once(4, gives_up_threads=True)"
    done = subprocess.run([sys.executable, "-c", BEGIN + THREAD + end], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
