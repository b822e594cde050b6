"""Tells the spool that lines have started, beside them: the line's own thread does not wait for it."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from contextlib import suppress

import psutil

from pf_mlflow.records.line import FAILED, LineRecord
from pf_mlflow.records.masking import cleaned
from pf_mlflow.sources.live.live_batches import Place
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.processes import started_at

__all__ = ["Opening"]

_EVERY = 0.02
"""Seconds between two looks."""

log = logging.getLogger(__name__)


class Opening:
    """Opens lines in the spool by a thread that looks for new ones now and then.

    While a line begins, the LLM node's thread computes: each time the line's own thread let go of the interpreter, as
    SQLite does, it would wait some 5 ms to get it back. Waking the other thread would cost as much on a busy machine.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._started = 0.0
        self._asked: dict[tuple[str, int], tuple[Place, str]] = {}

    def start(self, place: Place, inputs: str) -> None:
        """Have a line opened; `inputs` is JSON, kept in case that nothing else is ever known of the line."""
        if self._pid != os.getpid():  # threads do not survive a fork
            self._pid, self._started = os.getpid(), started_at(psutil.Process())
            self._asked = {}
            threading.Thread(target=self._look, name="pf-mlflow-opening", daemon=True).start()
        self._asked[place.batch.uid, place.line_number] = place, inputs

    def cancel(self, place: Place) -> None:
        """Leave a line unopened that is over before its turn has come."""
        self._asked.pop((place.batch.uid, place.line_number), None)

    def _look(self) -> None:
        while True:
            time.sleep(_EVERY)
            while self._asked:
                with suppress(KeyError):  # cancelled in this moment
                    self._open(*self._asked.popitem()[1])

    def _open(self, place: Place, inputs: str) -> None:
        try:
            draft = _draft(place, inputs)
            place.spool.open_line(place.batch.uid, place.line_number, place.started, self._started, draft)
            deliver_in_background(place.spool, place.batch.uid)
        except (OSError, sqlite3.Error) as error:  # the line's end will tell of it, where the batch's log is at hand
            log.debug("line %d was not opened: %s", place.line_number, error)


def _draft(place: Place, inputs: str) -> str:
    try:
        values = {name: value for name, value in json.loads(inputs).items() if name != "line_number"}
    except (ValueError, AttributeError):  # the line was asked before promptflow told its inputs
        return ""
    known = LineRecord(place.batch.uid, place.line_number, FAILED, place.started, place.started, values)
    return cleaned(known, place.batch.content).to_json()
