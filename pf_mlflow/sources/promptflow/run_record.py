"""Reads promptflow's own records of its batches."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.flow import DAG, Flow, evaluates, read_flow
from pf_mlflow.sources.promptflow.private_names import database_rows, run_database

__all__ = [
    "NOWHERE",
    "RunRecord",
    "batch_uid",
    "definition_as_run",
    "flow_as_read",
    "last_written",
    "run_record",
    "run_records",
    "seconds",
]

NOWHERE = Path(os.devnull)
"""Stands for the folder of a batch that has none: there is nothing in it."""
_OVER = {"Completed", "Failed", "Canceled"}


@dataclass(frozen=True)
class RunRecord:
    """What promptflow's own database says of a batch. Times are Unix seconds."""

    name: str
    created_on: str
    status: str
    display_name: str
    start: float | None
    end: float | None
    data: str | None
    flow_path: str | None
    output_path: Path | None
    variant: str | None
    base_batch: str | None
    resumed_from: str | None
    lines_failed: int
    lines_completed: int = 0
    column_mapping: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether promptflow says that the batch has ended."""
        return self.status in _OVER

    @property
    def flow_dir(self) -> Path | None:
        """The folder of the flow as its author knows it, not the copy that it may run in."""
        if not self.flow_path:
            return None
        path = Path(self.flow_path)
        return path.parent if path.suffix in (".yaml", ".yml", ".prompty", ".py") else path

    @property
    def folder(self) -> Path:
        """What promptflow keeps of the batch's lines."""
        return self.output_path or NOWHERE

    @property
    def flow_copy(self) -> Path:
        """The copy of the flow that promptflow makes when the batch ends."""
        return self.folder / "snapshot"

    @property
    def flow_as_run(self) -> Path:
        """The folder of the flow that ran: promptflow's copy, which it makes at the end, else the author's."""
        copy = self.flow_copy
        return copy if self.flow_dir is None or (copy / DAG).is_file() else self.flow_dir

    def is_evaluation(self) -> bool:
        """Tell whether the batch scores the lines of another: it has a base batch, and its flow is one that does."""
        return self.base_batch is not None and evaluates(self.flow_as_run)


def run_record(home: Path, name: str) -> RunRecord | None:
    """Return promptflow's record of a batch, `None` if there is none under that name."""
    return next(map(_record, database_rows(home, "run_info", "*", "WHERE name = ?", name)), None)


def run_records(home: Path) -> list[RunRecord]:
    """Return promptflow's records of all its batches, oldest first."""
    return list(map(_record, database_rows(home, "run_info", "*", "ORDER BY created_on")))


def last_written(home: str | None) -> int:
    """Return when promptflow last wrote its records, in nanoseconds of the file system's clock; 0 if never."""
    try:
        return run_database(Path(home)).stat().st_mtime_ns if home else 0
    except OSError:
        return 0


def _record(row: sqlite3.Row) -> RunRecord:
    properties = json.loads(row["properties"] or "{}")
    output_path = properties.get("output_path")
    metrics = properties.get("system_metrics") or {}
    return RunRecord(
        name=row["name"],
        created_on=row["created_on"],
        status=row["status"],
        display_name=row["display_name"] or row["name"],
        start=seconds(row["start_time"]),
        end=seconds(row["end_time"]),
        data=row["data"],
        flow_path=properties.get("flow_path"),
        output_path=Path(output_path) if output_path else None,
        variant=properties.get("node_variant"),
        base_batch=properties.get("run"),
        resumed_from=properties.get("resume_from"),
        lines_failed=metrics.get("__pf__.lines.failed") or 0,
        lines_completed=metrics.get("__pf__.lines.completed") or 0,
        column_mapping=properties.get("column_mapping") or {},
    )


def definition_as_run(record: RunRecord) -> Mapping[str, Any]:
    """Return what the YAML of a batch's flow says; nothing where no flow can be read."""
    flow = flow_as_read(record)
    return flow.definition if flow else {}


def flow_as_read(record: RunRecord) -> Flow | None:
    """Return a batch's flow, read from promptflow's copy, else where its author has it; `None` if neither can be."""
    path = Path(record.flow_path) if record.flow_path else None
    copies = [record.flow_copy / path.name] if path and path.suffix else []
    for place in (*copies, record.flow_copy, *([path] if path else [])):
        with suppress(BadInput):
            return read_flow(place)
    return None


def batch_uid(home: Path, name: str, created_on: str) -> str:
    """Return what tells this batch from others of its name: another user's, another machine's, one made anew."""
    return hashlib.sha256(f"{home}\n{name}\n{created_on}".encode()).hexdigest()[:32]


def seconds(value: str | None) -> float | None:
    """Return a time of promptflow's in Unix seconds."""
    return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() if value else None
