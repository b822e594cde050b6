"""Which batch a running line belongs to, and where its records go."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import psutil

from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings, read_settings
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder, is_evaluation
from pf_mlflow.sources.promptflow.batch_lookup import evaluation_of
from pf_mlflow.sources.promptflow.local_batch import destination, local_batch
from pf_mlflow.sources.promptflow.private_names import CurrentLine, promptflow_home
from pf_mlflow.sources.promptflow.run_record import batch_uid, run_record
from pf_mlflow.spool.processes import client_process, started_at
from pf_mlflow.spool.store import Spool

__all__ = ["LiveBatches", "Place"]


@dataclass(frozen=True)
class Place:
    """Where a line's record goes, and since when the line runs (Unix seconds)."""

    spool: Spool
    batch: Batch
    line_number: int
    started: float


class LiveBatches:
    """The batches whose lines this process executes; made known to the spool at their first line here."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch | None] = {}
        self._single_numbers: dict[str, int] = {}
        self._count = count()
        self._lock = threading.Lock()

    @cached_property
    def settings(self) -> Settings:
        """The settings of this process, read when its first line starts."""
        return read_settings()

    @cached_property
    def spool(self) -> Spool:
        """The user's spool."""
        return Spool(self.settings.spool_dir, self.settings.spool_limit)

    def place(self, line: CurrentLine, started: int | None) -> Place | None:
        """Return where a line's record goes, `None` if it is not to be logged. `started` is in nanoseconds."""
        single = line.line_number is None
        if not self.settings.enabled or (single and not self.settings.log_single_runs):
            return None
        batch = self._batch("" if single else line.run_name)
        if batch is None:
            return None
        number = line.line_number if line.line_number is not None else self._single_number(line.run_name)
        return Place(self.spool, batch, number, time.time() if started is None else started / 1e9)

    def _single_number(self, run_name: str) -> int:
        with self._lock:
            if run_name not in self._single_numbers:
                self._single_numbers = {run_name: next(self._count), **dict(list(self._single_numbers.items())[:99])}
            return self._single_numbers[run_name]

    def _batch(self, name: str) -> Batch | None:
        """Return the batch of a name, `None` if it evaluates another and saves no scores."""
        with self._lock:
            if name not in self._batches:
                batch = _single_batch(self.settings) if not name else self._local_batch(name)
                if batch:
                    self.spool.add_batch(batch)
                self._batches[name] = batch
            return self._batches[name]

    def _local_batch(self, name: str) -> Batch | None:
        home = promptflow_home()
        record = run_record(home, name)
        batch = local_batch(home, name, record, self.settings, client_process())
        if record and is_evaluation(record):
            if not BatchFolder.of(record).flow.saves_scores:
                return None
            return evaluation_of(record.base_batch or "", batch, self.spool, self.settings)
        return batch


def _single_batch(settings: Settings) -> Batch:
    process = psutil.Process()
    return Batch(
        uid=batch_uid(promptflow_home(), f"single {process.pid}", str(process.create_time())),
        name="",
        client_pid=process.pid,
        client_started=started_at(process),
        **destination(settings, _folder_of_single_run()),
        single=True,
    )


def _folder_of_single_run() -> Path:
    """Return the flow's folder; of a flow that runs in a temporary copy, the folder that the command was typed in."""
    here, temporary = Path.cwd(), Path(tempfile.gettempdir()).resolve()
    typed_in = Path(os.environ.get("PWD") or here)
    return typed_in if temporary in here.resolve().parents and temporary not in typed_in.resolve().parents else here
