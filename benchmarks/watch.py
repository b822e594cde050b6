"""Runs a command as a user would and tells what it took: time, CPU and memory of its whole tree of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from machine import ROOT

__all__ = ["Taken", "watched"]

_SAMPLED_EVERY = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PARENT, _RESIDENT = 1, 21
"""Fields of `/proc/PID/stat` after the command's name."""


@dataclass(frozen=True)
class Sample:
    """The resident bytes of a tree at a time."""

    at: float
    resident: int


@dataclass(frozen=True)
class Taken:
    """What a command took; times are in seconds since the epoch."""

    started: float
    ended: float
    code: int
    all_ended: float
    cpu: float
    samples: list[Sample] = field(repr=False)

    @property
    def peak(self) -> int:
        """Return the most bytes that the tree held at once."""
        return max(sample.resident for sample in self.samples)

    def resident_at(self, at: float) -> int:
        """Return the bytes that the tree held at a time, or next to it."""
        return min(self.samples, key=lambda sample: abs(sample.at - at)).resident


def watched(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, at_end: Callable[[], object] = lambda: None
) -> Taken:
    """Run a command and wait for all that it starts; call `at_end` as soon as the command itself has ended."""
    over = threading.Event()
    samples: list[Sample] = []
    with log.open("w", encoding="utf-8") as out, _start(command, cwd, env, out) as tree:
        sampling = threading.Thread(target=_sample_until, args=[over, tree.pid, samples], daemon=True)
        sampling.start()
        own_end = _next_line(tree, log)
        at_end()
        last_end = _next_line(tree, log)
        over.set()
        sampling.join()
    return Taken(**own_end, **last_end, samples=samples)


def _start(command: Sequence[str], cwd: Path, env: Mapping[str, str], out: IO[str]) -> subprocess.Popen[str]:
    tree = [sys.executable, str(ROOT / "benchmarks" / "tree.py"), *command]
    return subprocess.Popen(tree, cwd=cwd, env={**env, "PWD": str(cwd)}, stdout=subprocess.PIPE, stderr=out, text=True)


def _next_line(tree: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert tree.stdout
    if not (line := tree.stdout.readline()):
        raise SystemExit(f"{tree.args!r} could not be run: {log.read_text('utf-8')[-2000:]}")
    told: dict[str, Any] = json.loads(line)
    return told


def _sample_until(over: threading.Event, root: int, samples: list[Sample]) -> None:
    while not over.wait(_SAMPLED_EVERY):
        samples.append(Sample(time.time(), _resident_below(root)))


def _resident_below(root: int) -> int:
    """Sum up what the processes below one hold, itself left out."""
    below: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):  # it is gone
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            below.setdefault(int(fields[_PARENT]), []).append(pid)
            resident[pid] = int(fields[_RESIDENT]) * _PAGE
    total, waiting = 0, list(below.get(root, ()))
    while waiting:
        pid = waiting.pop()
        total += resident[pid]
        waiting += below.get(pid, ())
    return total
