"""The batches whose lines this process executes as one source, which hands each line to the spool."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

from pf_mlflow.logs import warn_once
from pf_mlflow.records.batch import Batch, command_on
from pf_mlflow.records.line import LineRecord, cleaned
from pf_mlflow.settings import Settings, read_settings
from pf_mlflow.sources.live.line_openings import LineOpenings
from pf_mlflow.sources.promptflow.flow import saves_scores
from pf_mlflow.sources.promptflow.known_secrets import known_secrets
from pf_mlflow.sources.promptflow.local_batch import evaluation_of, local_batch, single_batch
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import run_record
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.processes import client_process
from pf_mlflow.spool.store import Spool, is_full

__all__ = ["LiveSource"]


@dataclass(frozen=True)
class LiveLine:
    """A line that this process executes."""

    batch: Batch
    number: int
    started: float
    """Unix seconds."""

    @property
    def has_run(self) -> bool:
        """Whether MLflow shows the line in a run of its own: an evaluation's scores go to the line that it scores."""
        return self.batch.base_uid is None


class LiveSource:
    """What this process executes; batches are made known to the spool at their first line here. Safe for threads.

    Args:
        openings: Opens lines in the spool.
        settings: Those that hold; `None` reads this process's when its first line starts.
    """

    def __init__(self, openings: LineOpenings, settings: Settings | None = None) -> None:
        self.openings = openings
        self._settings = settings
        self._batches: dict[str, Batch | None] = {}
        self._single_numbers: dict[str, int] = {}
        self._count = count()
        self._lock = threading.Lock()
        self._ids_come = False

    @cached_property
    def settings(self) -> Settings:
        """What is logged, and where."""
        return self._settings or read_settings()

    @cached_property
    def spool(self) -> Spool:
        """The user's spool."""
        return Spool(self.settings.spool_dir, self.settings.spool_limit)

    def logs(self, number: int | None) -> bool:
        """Tell whether lines of a batch, or with `None` single executions, are to be logged."""
        return self.settings.enabled and (number is not None or self.settings.log_single_runs)

    def batch(self, name: str) -> Batch | None:
        """Return the batch of a name, that of single executions for `""`; `None` if none of it is to be logged."""
        if not self.logs(0 if name else None):
            return None
        with self._lock:
            if name not in self._batches:
                batch = self._local_batch(name) if name else single_batch(self.settings)
                if batch:
                    self.spool.add_batch(batch)
                self._batches[name] = batch
            return self._batches[name]

    def _local_batch(self, name: str) -> Batch | None:
        """Return a batch that promptflow keeps a record of, `None` if it evaluates another and saves no scores."""
        home = promptflow_home()
        record = run_record(home, name)
        batch = local_batch(home, name, record, self.settings, client_process())
        if record is None or not record.is_evaluation():
            return batch
        if not saves_scores(record.flow_as_run):
            return None
        return evaluation_of(record.base_batch or "", batch, self.spool, self.settings)

    def line(self, name: str, number: int | None, started: float | None = None) -> LiveLine | None:
        """Return a line by the name of its batch and its number, `None` if it is not to be logged.

        Args:
            name: The batch's; of a single execution its own.
            number: `None` for a single execution.
            started: Unix seconds; `None` is now.
        """
        batch = self.batch("" if number is None else name)
        if batch is None:
            return None
        number = self._single_number(name) if number is None else number
        return LiveLine(batch, number, time.time() if started is None else started)

    def _single_number(self, name: str) -> int:
        with self._lock:
            if name not in self._single_numbers:
                self._single_numbers[name] = next(self._count)
            return self._single_numbers[name]

    def open(self, line: LiveLine, inputs: Mapping[str, Any] | str) -> None:
        """Have a line shown as RUNNING; `inputs` as they are or as JSON, for the case that no more is ever known."""
        self.openings.add(self.spool, line.batch, line.number, line.started, inputs)

    def complete(self, line: LiveLine, record: LineRecord) -> None:
        """Hand a line that is over to the spool, without secrets, and of an evaluation only its scores."""
        if line.batch.single:
            self._single_numbers.pop(record.run_name, None)
        if not line.has_run:
            if not record.scores:
                return
            expected = {name: value for name, value in record.inputs.items() if name == "ground_truth"}
            record = replace(record, inputs=expected, outputs={}, spans=())  # the line that it scores has all else
        record = cleaned(record, line.batch.content, known_secrets())
        self.openings.cancel(line.batch, line.number)
        try:
            self.spool.complete_line(record.batch_uid, record.line_number, record.start, record.to_json())
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            warn_once(
                f"The spool {self.spool.folder} is full, by PF_MLFLOW_SPOOL_LIMIT or its disk: what it cannot keep is "
                f"taken from promptflow's folder when the batch is over, or by `{command_on('sync', line.batch.name)}`."
            )
        deliver_in_background(self.spool, line.batch.uid)

    def run_id(self, batch_uid: str, number: int, patience: float) -> str:
        """Return the id of a line's run, `""` if MLflow has not made it within so many seconds.

        It is waited for only while ids come: with MLflow down, no line waits for one.
        """
        until = time.monotonic() + (patience if self._ids_come else 0.0)
        while not (found := self.spool.run_id(batch_uid, number)) and time.monotonic() < until:
            time.sleep(0.002)
        self._ids_come = bool(found)
        return found
