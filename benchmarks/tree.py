"""Runs a command and waits for all that it starts: `python -m benchmarks.tree COMMAND…`, on Linux.

Orphans become this process's children, so that a delivery process that outlives its command is waited for like the
command, and the system has told the CPU of every process of the tree in the end. It prints two lines of JSON: when the
command ended and with what code; when its last process ended, and the CPU seconds of all.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time

__all__: list[str] = []

_PR_SET_CHILD_SUBREAPER = 36


def main(*command: str) -> None:
    """Run the command; its output goes to standard error, this process's own to standard output."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "orphans cannot be taken over")
    started = time.time()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    _, code = _wait_for(process.pid)
    _tell(started=started, ended=time.time(), code=os.waitstatus_to_exitcode(code))
    process.returncode = 0
    while _wait_for(-1)[0]:
        pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    _tell(all_ended=time.time(), cpu=used.ru_utime + used.ru_stime)


def _wait_for(pid: int) -> tuple[int, int]:
    """Wait for the process, or for any with -1; return its id, 0 if there is none, and its status."""
    try:
        while True:
            ended, status = os.waitpid(-1, 0)
            if pid in (-1, ended):
                return ended, status
    except ChildProcessError:
        return 0, 0


def _tell(**what: float) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
