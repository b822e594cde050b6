"""Opens lines in the spool beside them: the line's own thread does not wait for it."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED, LineRecord, cleaned
from pf_mlflow.sources.promptflow.known_secrets import known_secrets
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.processes import started_at
from pf_mlflow.spool.store import Spool

__all__ = ["LineOpenings"]

_EVERY = 0.02
"""Seconds between two looks."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opening:
    spool: Spool
    batch: Batch
    number: int
    started: float
    inputs: Mapping[str, Any] | str

    def draft(self) -> str:
        """Return the record of which only the inputs are known, `""` if they are not."""
        try:
            inputs = json.loads(self.inputs) if isinstance(self.inputs, str) else self.inputs
            values = {name: value for name, value in inputs.items() if name != "line_number"}
            known = LineRecord(self.batch.uid, self.number, FAILED, self.started, self.started, values)
            return cleaned(known, self.batch.content, known_secrets()).to_json()
        except (ValueError, AttributeError, RuntimeError):  # promptflow does not have them yet, or a node changes them
            return ""


class LineOpenings:
    """Opens lines by a thread that looks for new ones now and then.

    While a line begins, the LLM node's thread computes: each time the line's own thread let go of the interpreter, as
    SQLite does, it would wait some 5 ms to get it back. Waking the other thread would cost as much on a busy machine.
    """

    def __init__(self) -> None:
        self._start = threading.Lock()
        self._pid = 0
        self._started = 0.0
        self._waiting: dict[tuple[str, int], _Opening] = {}
        self._begun: set[tuple[str, int]] = set()
        """Lines that go on: both who executes a line and a node of its flow may ask for it."""

    def add(self, spool: Spool, batch: Batch, number: int, started: float, inputs: Mapping[str, Any] | str) -> None:
        """Have a line opened that started at a Unix time; `inputs` as they are or as JSON."""
        if self._pid != os.getpid():  # threads do not survive a fork
            self._begin()
        if (batch.uid, number) not in self._begun:
            self._begun.add((batch.uid, number))
            self._waiting[batch.uid, number] = _Opening(spool, batch, number, started, inputs)

    def _begin(self) -> None:
        """Start this process's thread, once though many lines begin at the same time."""
        with self._start:
            if self._pid != os.getpid():
                self._started = started_at(psutil.Process())
                self._waiting, self._begun = {}, set()
                threading.Thread(target=self._look, name="pf-mlflow-opening", daemon=True).start()
                self._pid = os.getpid()

    def cancel(self, batch: Batch, number: int) -> None:
        """Leave a line unopened that is over before its turn has come."""
        self._waiting.pop((batch.uid, number), None)
        self._begun.discard((batch.uid, number))

    def _look(self) -> None:
        while True:
            time.sleep(_EVERY)
            while self._waiting:
                with suppress(KeyError):  # cancelled in this moment
                    self._open(self._waiting.popitem()[1])

    def _open(self, line: _Opening) -> None:
        try:
            line.spool.open_line(line.batch.uid, line.number, line.started, self._started, line.draft())
            deliver_in_background(line.spool, line.batch.uid)
        except (OSError, sqlite3.Error) as error:  # the line's end warns, where the batch's log is at hand
            log.debug("line %d was not opened: %s", line.number, error)
