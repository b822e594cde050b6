"""Runs processes by turns, a few seconds each, so that what else the machine does slows each of them alike."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

__all__ = ["Turned", "run_by_turns"]

_TURN = 5.0
_LOOK_EVERY = 0.25
_CHILDREN = "SELECT count(*), count(CASE WHEN status != 'RUNNING' THEN 1 END) FROM runs WHERE name LIKE 'Run 0%'"


@dataclass(frozen=True)
class Seen:
    """A look at a process: the seconds for which it has worked, child runs made and ended, resident bytes."""

    seconds: float
    made: int
    ended: int
    memory: int


@dataclass
class Turned:
    """A process that works only while it is its turn, and the SQLite file that its runs end up in."""

    words: Sequence[str]
    call: dict[str, Any]
    database: Path
    seen: list[Seen] = field(default_factory=list)
    seconds: float = 0.0
    output: str = ""
    _out: IO[str] = field(default_factory=lambda: tempfile.TemporaryFile("w+", encoding="utf-8"))
    _process: subprocess.Popen[bytes] | None = None

    def take_turn(self) -> bool:
        """Work for one turn; tell whether there is more to do."""
        started, before = time.monotonic(), self.seconds
        process = self._go_on()
        while process.poll() is None and time.monotonic() - started < _TURN:
            self._look(process.pid, before + time.monotonic() - started)
            try:
                process.wait(_LOOK_EVERY)
            except subprocess.TimeoutExpired:
                continue
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGSTOP)
        self.seconds = before + time.monotonic() - started
        return process.returncode is None or self._ended(process.returncode)

    def _go_on(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(self.words, stdout=self._out, start_new_session=True, **self.call)
        else:
            os.killpg(self._process.pid, signal.SIGCONT)
        return self._process

    def _ended(self, code: int) -> bool:
        self._out.seek(0)
        self.output = self._out.read()
        self._out.close()
        if code:
            raise SystemExit(f"{' '.join(self.words)} ended with {code}: {self.output}")
        self.seen.append(Seen(self.seconds, *_counts(self.database), memory=0))
        return False

    def _look(self, pid: int, seconds: float) -> None:
        try:
            self.seen.append(Seen(seconds, *_counts(self.database), memory=psutil.Process(pid).memory_info().rss))
        except (sqlite3.OperationalError, psutil.Error):  # no tables yet, or being written; or over
            return

    def lines_per_second(self) -> float:
        """Return the pace from the first child run's creation to the last one's end: start-up and closing aside."""
        first = next(one for one in self.seen if one.made)
        last = next(one for one in self.seen if one.ended == self.seen[-1].ended)
        return (last.ended - first.ended) / (last.seconds - first.seconds)

    def peak_memory(self, lines: int) -> int:
        """Return the most resident bytes while no more than so many lines were made."""
        return max(one.memory for one in self.seen if one.made <= lines)


def run_by_turns(*turned: Turned) -> None:
    """Let the processes work in turns until all have ended."""
    working = list(turned)
    while working:
        working = [one for one in working if one.take_turn()]


def _counts(database: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=0.5)) as db:
        made, ended = db.execute(_CHILDREN).fetchone()
        return made, ended
