"""Reads of a batch's data what went into no input of its lines: it belongs to them all the same."""

from __future__ import annotations

import json
import logging
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.private_names import data_rows
from pf_mlflow.sources.promptflow.row_check import first_with_data, input_columns, is_unchanged
from pf_mlflow.sources.promptflow.run_record import RunRecord

__all__ = ["other_columns"]

_EXPECTED = "ground_truth"
"""Input of an evaluation that its lines' runs show as what was expected."""

log = logging.getLogger(__name__)


def other_columns(record: RunRecord, home: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield by line number the columns that no run of a batch shows, of an evaluation those of the batch it scores."""
    try:
        base = first_with_data(home, record.base_batch) if record.is_evaluation() and record.base_batch else record
        shown = set(input_columns(base).values()) | {"line_number"}
        if base is not record:
            shown |= {column for name, column in input_columns(record).items() if name == _EXPECTED}
        read = record if record.data else base
        data = Path(read.data or "")
        for number, row in enumerate(_rows(data) if data.is_file() and is_unchanged(read) else ()):
            if isinstance(row, dict) and (others := {key: value for key, value in row.items() if key not in shown}):
                yield row.get("line_number", number), others
    except (BadInput, OSError, ValueError) as error:  # the runs have what their lines were given
        log.warning("batch %s: the other columns of its data are not shown: %s", record.name, error)


def _rows(data: Path) -> Iterator[Any]:
    if data.suffix.lower() != ".jsonl":
        yield from data_rows(data)
        return
    with data.open("rb") as lines:  # by promptflow's own reader all of them would be in memory
        for number, line in enumerate(lines):
            if text := line.removeprefix(BOM_UTF8 if number == 0 else b"").strip():
                yield json.loads(text, strict=False)
