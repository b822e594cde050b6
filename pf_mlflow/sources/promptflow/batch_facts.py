"""How a batch stands and ends, by promptflow's run record and the life of its client process."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED, INTERRUPTED, LineRecord
from pf_mlflow.records.masking import cleaned
from pf_mlflow.sources.promptflow.batch_folder import folder_lines, is_evaluation, named_runs
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid, run_record, seconds
from pf_mlflow.spool.processes import is_alive, someone_works_in
from pf_mlflow.spool.store import OpenWorker
from pf_mlflow.tracking.run_payload import RunPayload, milliseconds

__all__ = ["BatchEnd"]

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5
_STRAGGLERS = 2.0
"""Seconds for which workers may still open lines after their client was killed."""
_LINE_TIMEOUT = 600
"""Seconds that promptflow gives a line."""
_FLOW_FILES = {".py", ".jinja2", ".yaml", ".yml", ".prompty", ".json", ".txt"}


class BatchEnd:
    """What is known of a batch outside of its lines. Times are Unix seconds.

    Args:
        batch: The batch.
        workers: Tells the processes that have lines open, by number and start, and since when.
    """

    def __init__(self, batch: Batch, workers: Callable[[], Iterable[OpenWorker]] = tuple) -> None:
        self.batch = batch
        self._workers = workers
        self._record: RunRecord | None = None
        self._looked = self._client_gone = self._over = -math.inf

    def record(self) -> RunRecord | None:
        """Return promptflow's record of this very batch, `None` where promptflow keeps none."""
        if self.batch.promptflow_home is None:
            return None
        home = Path(self.batch.promptflow_home)
        try:
            found = run_record(home, self.batch.name)
        except sqlite3.Error as error:  # promptflow was killed while it wrote
            log.warning("batch %s: promptflow's record cannot be read: %s", self.batch.name, error)
            found = None
        if found and batch_uid(home, found.name, found.created_on) == self.batch.uid:
            self._record = found
        return self._record

    @property
    def display_name(self) -> str:
        """The batch's name as people see it."""
        record = self.record()
        return record.display_name if record else self.batch.name

    def started_at(self) -> float:
        """Return when the batch started."""
        record = self.record()
        return (record and (record.start or seconds(record.created_on))) or time.time()

    def reached(self) -> bool:
        """Tell whether the batch is over: its record says so, or its client is gone and its workers are done."""
        now = time.monotonic()
        if self._over < 0 and now - self._looked >= _LOOK_EVERY:
            self._looked = now
            if self._is_told_over():
                self._over = now
            elif self._is_client_gone():
                self._client_gone = max(self._client_gone, 0.0) or now
                waited = now - self._client_gone
                if self.batch.single or (waited >= _STRAGGLERS and not self._has_stragglers(waited)):
                    self._over = now
        return self._over >= 0

    def is_running(self) -> bool:
        """Tell whether lines may still come, without waiting for any."""
        return not (self._is_told_over() or (self._is_client_gone() and not self._has_stragglers()))

    def _is_told_over(self) -> bool:
        record = self.record()
        return record is not None and record.mlflow_status is not None

    def _is_client_gone(self) -> bool:
        if self.batch.client_pid:
            return not is_alive(self.batch.client_pid, self.batch.client_started)
        record = self.record()
        return not (record and record.output_path and someone_works_in(record.output_path))

    def _has_stragglers(self, waited: float = 0.0) -> bool:
        """Tell whether workers that outlived their client are still in a line, which promptflow gives only so long."""
        longest = float(os.environ.get("PF_LINE_TIMEOUT_SEC") or _LINE_TIMEOUT)
        if waited > longest:
            return False
        return any(time.time() - one.since <= longest and is_alive(one.pid, one.started) for one in self._workers())

    def over_for(self) -> float:
        """Return for how many seconds the batch has been known to be over, 0 while it goes on."""
        return max(0.0, time.monotonic() - self._over) if self._over >= 0 else 0.0

    def lines(self, wanted: Callable[[int], bool]) -> Iterator[LineRecord]:
        """Yield the wanted lines that promptflow has kept in the batch's folder."""
        record = self.record()
        if record and record.output_path:
            folder = record.output_path
            for line in folder_lines(self.batch.uid, self.batch.name, folder, wanted, record.flow_dir):
                yield cleaned(line, self.batch.content)

    def interrupted(self, line_number: int, opened: float, draft: str | None = None) -> LineRecord:
        """Return the record of a line of which nothing is known but that it had started, and perhaps its inputs."""
        known = (
            LineRecord.from_json(draft) if draft else LineRecord(self.batch.uid, line_number, FAILED, opened, opened)
        )
        return replace(
            known,
            end=max(opened, self._last_sign()),
            run_name=self.batch.name,
            error="the batch ended before the line did",
            error_type=INTERRUPTED,
        )

    def _last_sign(self) -> float:
        """Return when the batch ended; of one that was killed, when it wrote last."""
        record = self.record()
        if record and record.end:
            return record.end
        if record and record.output_path and record.output_path.is_dir():
            return max(path.stat().st_mtime for path in (record.output_path, *record.output_path.iterdir()))
        return time.time()

    def named_runs(self) -> dict[int, str]:
        """Return the child run ids that the batch's outputs name, by line."""
        record = self.record()
        return named_runs(record.output_path) if record and record.output_path else {}

    def is_evaluation(self) -> bool:
        """Tell whether the batch scores the lines of another, whose child runs its scores belong to."""
        record = self.record()
        return bool(record and is_evaluation(record))

    def parent_payload(self) -> RunPayload:
        """Return what the parent run tells from its start: flow, data and code that the batch was made of."""
        payload = RunPayload("RUNNING", 0, 0)
        payload.add_param("flow", self.batch.flow_name)
        record = self.record()
        if record is None:
            return payload
        if record.variant:
            payload.add_param("variant", record.variant)
        if record.data and Path(record.data).is_file():
            payload.add_param("data", Path(record.data).name)
            payload.add_param("data_hash", _digest([Path(record.data)]))
        if record.flow_dir and (commit := _git_commit(record.flow_dir)):
            payload.add_param("git_commit", commit)
        return payload

    def closing_payload(self) -> RunPayload:
        """Return the parent run's end: status and time of promptflow's record, and the hash of the flow that ran."""
        record = self.record()
        status = (record and record.mlflow_status) or ("KILLED" if record else "FINISHED")
        payload = RunPayload(status, 0, milliseconds(self._last_sign()))
        snapshot = record.output_path / "snapshot" if record and record.output_path else None
        if snapshot and snapshot.is_dir():
            payload.add_param("flow_hash", _digest(_flow_files(snapshot), snapshot))
        return payload

    def write_log(self, sentence: str) -> None:
        """Write a sentence into the batch's `logs.txt`."""
        record = self.record()
        if record and record.output_path and (record.output_path / "logs.txt").is_file():
            now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S %z")
            with (record.output_path / "logs.txt").open("a", encoding="utf-8") as logs:
                logs.write(f"{now} {'':7} pf-mlflow            WARNING  {sentence}\n")


def _flow_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix in _FLOW_FILES and path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _digest(files: Iterable[Path], base: Path | None = None) -> str:
    digest = hashlib.sha256()
    for path in files:
        if base:
            digest.update(f"\0{path.relative_to(base).as_posix()}\0".encode())
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _git_commit(folder: Path) -> str | None:
    try:
        told = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() if told.returncode == 0 else None
