"""A batch that promptflow ran on this machine as a source: its record, its folder and its life."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pf_mlflow.records.batch import Batch, command_on
from pf_mlflow.records.line import COMPLETED, FAILED, LineRecord, cleaned, ranges
from pf_mlflow.records.source import BatchFacts, Provenance
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder, data_files, digest
from pf_mlflow.sources.promptflow.known_secrets import known_secrets
from pf_mlflow.sources.promptflow.life import Life
from pf_mlflow.sources.promptflow.other_columns import other_columns
from pf_mlflow.sources.promptflow.outcome import failure_of, logged_metrics
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid, run_record, seconds
from pf_mlflow.spool.entries import OpenWorker
from pf_mlflow.spool.store import Spool

__all__ = ["LocalSource"]

log = logging.getLogger(__name__)


class LocalSource:
    """A local batch, running or over; `workers` reads which processes have lines of it open."""

    def __init__(self, batch: Batch, workers: Callable[[], Iterable[OpenWorker]] = tuple) -> None:
        self.batch = batch
        life = Life(batch, self.record, workers)
        self.is_running, self.over_since = life.is_running, life.over_since
        self._record: RunRecord | None = None

    @classmethod
    def of(cls, batch: Batch, spool: Spool) -> LocalSource:
        """Return the source of a batch whose open lines a spool knows."""
        return cls(batch, lambda: spool.workers(batch.uid))

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
    def folder(self) -> BatchFolder:
        """What promptflow keeps of the batch's lines."""
        return BatchFolder.of(self.record())

    def facts(self) -> BatchFacts:
        """Return what is known of the batch by now."""
        record = self.record()
        if record is None:
            return BatchFacts(self.batch.name)
        return BatchFacts(
            record.display_name,
            record.start or seconds(record.created_on),
            record.end or BatchFolder.of(record).last_written(),
            record.status,
            record.base_batch if record.is_evaluation() else None,
            known_secrets().masked(failure_of(record, self.batch.content != "none") or "") or None,
            logged_metrics(record),
        )

    def provenance(self) -> Provenance:
        """Return what the batch was made of; what does not change is read once."""
        return replace(self._origin, flow_hash=self.folder.flow_hash())

    @cached_property
    def _origin(self) -> Provenance:
        record = self.record()
        if record is None:
            return Provenance()
        data = Path(record.data) if record.data else None
        files = data_files(data) if data else []
        return Provenance(
            variant=record.variant,
            data=data.name if data and files else None,
            data_hash=digest(files, data if data and data.is_dir() else None) if files else None,
            git_commit=_git_commit(record.flow_dir) if record.flow_dir else None,
            copied_from=_copied_from(record, Path(self.batch.promptflow_home or "")),
        )

    def lines(self, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[LineRecord]:
        """Yield the wanted lines that promptflow has kept in the batch's folder."""
        for line in self.folder.lines(self.batch.uid, self.batch.name, wanted):
            if line.status == FAILED and not line.inputs:
                line = replace(line, inputs=self._rows.get(line.line_number, {}))
            yield cleaned(line, self.batch.content, known_secrets())

    @cached_property
    def _rows(self) -> dict[int, dict[str, Any]]:
        """What the data's rows gave the lines, some of which promptflow could not convert, and kept nothing of."""
        from pf_mlflow.sources.promptflow.row_check import inputs_of_rows  # which no line that runs needs

        record = self.record()
        return inputs_of_rows(record) if record else {}

    def decided(self) -> Iterator[LineRecord]:
        """Yield the last word on each line, with no more than status and outputs."""
        for line in self.folder.decided(self.batch.uid):
            yield cleaned(line, self.batch.content, known_secrets()) if line.outputs else line

    def other_columns(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield by line number what the data have that went into no input; nothing where no text is to be kept."""
        record = self.record()
        if record and self.batch.promptflow_home and self.batch.content != "none":
            for number, row in other_columns(record, Path(self.batch.promptflow_home)):
                yield number, known_secrets().masked_value(row)

    def folder_gone(self) -> str | None:
        """Return the folder of a batch that is over, if it is not there any more."""
        record = self.record()
        if record is None or record.output_path is None or record.output_path.is_dir() or self.is_running():
            return None
        return str(record.output_path)

    def unread(self, known: int, lacks: Callable[[int], bool]) -> str | None:
        """Tell which lines that are lacked promptflow kept but cannot be read, `None` if there are none."""
        remedy = f"Restore what is missing, then `{command_on('sync', self.batch.name)}`."
        record, folder = self.record(), self.folder
        if (path := self.folder_gone()) and record and not self.batch.base_uid:
            lacked = record.lines_completed + record.lines_failed - known
            return (
                f"promptflow's folder {path} is gone, and MLflow lacks {lacked} of its lines. {remedy}"
                if lacked > 0
                else None
            )
        if not (numbers := folder.unread(lacks)):
            return None
        lines = f"Line{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"
        return f"{lines} cannot be read in {folder.lines_folder}: the files are cut off, closed or gone. {remedy}"

    def named_runs(self) -> dict[int, str]:
        """Return the child run ids that the batch's outputs name, by line."""
        return self.folder.named_runs()


def _copied_from(record: RunRecord, home: Path) -> str | None:
    """Return which completed lines promptflow took over from an earlier batch, whose parent run tells their origin."""
    earlier = run_record(home, record.resumed_from) if record.resumed_from else None
    if earlier is None:
        return None
    folder = BatchFolder.of(earlier)
    numbers = (line.line_number for line in folder.decided("") if line.status == COMPLETED)
    return f"{earlier.name}: lines {ranges(numbers) or 'none'}, flow_hash {folder.flow_hash()}"


def _git_commit(folder: Path) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
