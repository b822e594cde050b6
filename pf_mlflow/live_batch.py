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
from typing import Any

import psutil

from pf_mlflow.finished_batch import RunRecord, batch_uid, run_record
from pf_mlflow.promptflow_private import CurrentLine, promptflow_home
from pf_mlflow.records import Batch
from pf_mlflow.settings import Settings, current_user, default_tracking_uri, read_settings, without_password
from pf_mlflow.spool import Spool

__all__ = ["LiveBatches", "Place", "client_process"]


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
        self._batches: dict[str, Batch] = {}
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
        return Spool(self.settings.spool_dir)

    def place(self, line: CurrentLine, started: int | None) -> Place | None:
        """Return where a line's record goes, `None` if it is not to be logged. `started` is in nanoseconds."""
        single = line.line_number is None
        if not self.settings.enabled or (single and not self.settings.log_single_runs):
            return None
        batch = self._batch("" if single else line.run_name)
        number = line.line_number if line.line_number is not None else self._single_number(line.run_name)
        return Place(self.spool, batch, number, time.time() if started is None else started / 1e9)

    def _single_number(self, run_name: str) -> int:
        with self._lock:
            if run_name not in self._single_numbers:
                self._single_numbers = {run_name: next(self._count), **dict(list(self._single_numbers.items())[:99])}
            return self._single_numbers[run_name]

    def _batch(self, name: str) -> Batch:
        with self._lock:
            if name not in self._batches:
                batch = _single_batch(self.settings) if not name else _batch(name, self.settings)
                self.spool.add_batch(batch)
                self._batches[name] = batch
            return self._batches[name]


def _batch(name: str, settings: Settings) -> Batch:
    home = promptflow_home()
    record = run_record(home, name)
    client = client_process()
    flow_dir = _flow_dir(record)
    return Batch(
        uid=batch_uid(home, name, record.created_on if record else ""),
        name=name,
        client_pid=client.pid,
        client_started=client.create_time(),
        promptflow_home=str(home) if record else None,
        **_destination(settings, flow_dir),
    )


def _single_batch(settings: Settings) -> Batch:
    process = psutil.Process()
    return Batch(
        uid=batch_uid(promptflow_home(), f"single {process.pid}", str(process.create_time())),
        name="",
        client_pid=process.pid,
        client_started=process.create_time(),
        **_destination(settings, _folder_of_single_run()),
        single=True,
    )


def _destination(settings: Settings, flow_dir: Path) -> dict[str, Any]:
    return {
        "flow_name": flow_dir.name,
        "tracking_uri": without_password(settings.tracking_uri or default_tracking_uri(flow_dir)),
        "experiment": settings.experiment or flow_dir.name,
        "user": current_user(),
        "content": settings.content,
    }


def _flow_dir(record: RunRecord | None) -> Path:
    """Return the author's flow folder: with `additional_includes` the flow itself runs in a temporary copy."""
    return (record and record.flow_dir) or Path.cwd()


def _folder_of_single_run() -> Path:
    """Return the flow's folder; of a flow that runs in a temporary copy, the folder that the command was typed in."""
    here, temporary = Path.cwd(), Path(tempfile.gettempdir()).resolve()
    typed_in = Path(os.environ.get("PWD") or here)
    return typed_in if temporary in here.resolve().parents and temporary not in typed_in.resolve().parents else here


def client_process() -> psutil.Process:
    """Return the process that runs the batch: promptflow's manager and workers are its multiprocessing children."""
    process = psutil.Process()
    while _is_multiprocessing_child(process) and (parent := process.parent()) and parent.pid != 1:
        process = parent
    return process


def _is_multiprocessing_child(process: psutil.Process) -> bool:
    try:
        return any("--multiprocessing-fork" in word or "multiprocessing.spawn" in word for word in process.cmdline())
    except psutil.Error:  # another user's process
        return False
