"""How a batch stands and ends, by promptflow's run record and the life of its client process."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from pf_mlflow.finished_batch import RunRecord, batch_uid, folder_lines, run_record
from pf_mlflow.launch import is_alive
from pf_mlflow.payload import RunPayload
from pf_mlflow.records import FAILED, Batch, LineRecord
from pf_mlflow.scrub import without_content, without_secrets

__all__ = ["BatchEnd"]

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5
_STRAGGLERS = 2.0
"""Seconds for which workers may still spool lines after their client was killed."""
_FLOW_FILES = {".py", ".jinja2", ".yaml", ".yml", ".prompty", ".json", ".txt"}


class BatchEnd:
    """What is known of a batch outside of its lines. Times are Unix seconds."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._record: RunRecord | None = None
        self._looked = 0.0
        self._over_since: float | None = None

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

    def reached(self) -> bool:
        """Tell whether the batch is over: its record says so, or its client is gone."""
        now = time.time()
        if self._over_since is None and now - self._looked >= _LOOK_EVERY:
            self._looked = now
            gone = not is_alive(self.batch.client_pid, self.batch.client_started)
            record = self.record()
            if gone or (record is not None and record.mlflow_status):
                killed = gone and not (record and record.mlflow_status) and not self.batch.single
                self._over_since = now + (_STRAGGLERS if killed else 0.0)
        return self._over_since is not None and now >= self._over_since

    def over_for(self) -> float:
        """Return for how many seconds the batch has been over, 0 while it goes on."""
        return max(0.0, time.time() - self._over_since) if self._over_since is not None else 0.0

    def missing_lines(self, unfinished: Mapping[int, float], known: set[int]) -> Iterator[LineRecord]:
        """Yield records of lines that ended without one: their worker was killed, or an input did not fit the flow."""
        record = self.record()
        told: set[int] = set()

        def wanted(number: int) -> bool:
            return number not in told and (number in unfinished or number not in known)

        if record and record.output_path:
            for line in folder_lines(self.batch.uid, self.batch.name, record.output_path, wanted):
                told.add(line.line_number)
                yield self._clean(line)
        end = (record and record.end) or time.time()
        for number in sorted(unfinished.keys() - told):
            yield LineRecord(
                self.batch.uid,
                number,
                FAILED,
                unfinished[number],
                end,
                run_name=self.batch.name,
                error="the batch ended before the line did",
                error_type="LineInterrupted",
            )

    def _clean(self, line: LineRecord) -> LineRecord:
        line = without_secrets(line)
        return without_content(line) if self.batch.content == "none" else line

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
        end = (record and record.end) or time.time()
        payload = RunPayload(status, 0, int(end * 1000))
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
