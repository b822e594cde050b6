"""Sees to it that an evaluation's data are the rows that the batch was run on: a score must not go to another line."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder, data_files
from pf_mlflow.sources.promptflow.private_names import CurrentLine, as_recorded, data_rows, promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, flow_as_read, run_record

__all__ = ["check_row", "first_with_data", "input_columns", "inputs_of_rows", "wrong_rows"]

_FROM_DATA = re.compile(r"\$\{(?:data|run\.inputs)\.(.+)\}$")
_lock = threading.Lock()


def check_row(line: CurrentLine) -> None:
    """Raise `BadInput` if the line of an evaluation has got the data of another line than the one that it scores."""
    with _lock:  # the first line reads the files, the others wait for it
        wrong = _wrong_rows(promptflow_home(), line.run_name)
    if isinstance(wrong, str):
        raise BadInput(wrong)
    if line.line_number is not None and line.line_number in wrong:
        raise BadInput(wrong[line.line_number])


@lru_cache(maxsize=8)
def _wrong_rows(home: Path, name: str) -> Mapping[int, str] | str:
    record = run_record(home, name)
    if not record or not record.base_batch or not record.data:
        return {}
    try:
        return wrong_rows(home, record.base_batch, Path(record.data))
    except BadInput as error:
        return str(error)


def wrong_rows(home: Path, base: str, data: Path) -> dict[int, str]:
    """Return which lines of a batch were not run on the row of that number in a file, each with a sentence.

    Raises:
        BadInput: that cannot be known.
    """
    record = first_with_data(home, base)
    lines = dict(_inputs(record))
    columns = input_columns(record)
    if not columns or not lines:
        raise BadInput(
            f"Nobody can tell whether the rows of {str(data)!r} are those of the batch {base!r}: nothing says which "
            "columns its inputs came from. Leave the data out, or run the batch anew with --column-mapping."
        )
    rows = {row.get("line_number", number): row for number, row in enumerate(data_rows(data))}
    kinds = _kinds(record)
    differences = {n: _difference(rows.get(n), inputs, columns, kinds) for n, inputs in lines.items()}
    suspects = {n for n, difference in differences.items() if difference}
    whole = BatchFolder.of(record).inputs(suspects.__contains__) if suspects else {}
    differences |= {n: _difference(rows.get(n), inputs, columns, kinds) for n, inputs in whole.items() if inputs}
    return {
        n: f"Row {n} of {str(data)!r} is not the row that line {n} of {base!r} was run on: {difference}. "
        "Give the batch's own data, in its order; columns may be added."
        for n, difference in differences.items()
        if difference
    }


def first_with_data(home: Path, base: str) -> RunRecord:
    """Return the batch that read a data file: of one that took over another's outputs, that other one."""
    record = run_record(home, base)
    while record and not input_columns(record) and record.base_batch:
        record = run_record(home, record.base_batch)
    if record is None:
        raise BadInput(f"There is no batch {base!r}; `pf run list` shows those there are.")
    return record


def inputs_of_rows(record: RunRecord) -> dict[int, dict[str, Any]]:
    """Return what the rows of a batch's data gave its lines, by number; nothing if they may have changed since."""
    if not is_unchanged(record):
        return {}
    columns = input_columns(record)
    with suppress(BadInput):
        rows = {row.get("line_number", number): row for number, row in enumerate(data_rows(Path(record.data or "")))}
        return {number: dict(_given(row, columns)) for number, row in rows.items()}
    return {}


def is_unchanged(record: RunRecord) -> bool:
    """Tell whether the files of a batch's data are there and were not written since it began."""
    files = data_files(Path(record.data)) if record.data else []
    return bool(files) and all(file.stat().st_mtime <= (record.start or 0.0) for file in files)


def _given(row: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name, column in columns.items():
        value = row.get(column, math.nan)
        if value == value:  # what a row lacks, promptflow reads as NaN
            yield name, value


def input_columns(record: RunRecord) -> dict[str, str]:
    """Return the columns that a batch's inputs came from, by input."""
    sources = {**(_by_name(record) if record.data else {}), **record.column_mapping}
    found = {name: _FROM_DATA.match(str(source)) for name, source in sources.items()}
    return {name: match[1] for name, match in found.items() if match}


def _by_name(record: RunRecord) -> dict[str, str]:
    """Return where promptflow takes inputs from that nobody has mapped: the column of their name, or their default."""
    inputs = _flow_inputs(record).items()
    return {name: f"${{data.{name}}}" for name, spec in inputs if (spec or {}).get("default") is None}


def _flow_inputs(record: RunRecord) -> Mapping[str, Any]:
    """Return what the batch's flow says of its inputs; where only its code tells them, those that a line was given."""
    flow = flow_as_read(record)
    if flow and flow.inputs is None:
        _, inputs = next(_inputs(record), (0, {}))
        return {name: {} for name in inputs if name != "line_number"}
    return flow.inputs or {} if flow else {}


def _kinds(record: RunRecord) -> dict[str, Any]:
    """Return the types that a batch's inputs were converted to: only those of a DAG are."""
    flow = flow_as_read(record)
    inputs = flow.inputs or {} if flow and flow.is_dag else {}
    return {name: (spec or {}).get("type") for name, spec in inputs.items()}


def _inputs(record: RunRecord) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the inputs of each line, quickly read but cut to ten decimals."""
    path = record.folder / "inputs.jsonl"
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for number, inputs in enumerate(map(json.loads, lines)):
                yield inputs.get("line_number", number), inputs
    else:  # promptflow writes it when a batch ends
        yield from BatchFolder.of(record).inputs(lambda number: True).items()


def _difference(
    row: Mapping[str, Any] | None, inputs: Mapping[str, Any], columns: Mapping[str, str], kinds: Mapping[str, Any]
) -> str:
    if row is None:
        return "it is not there"
    for name, column in columns.items():
        if column not in row:
            return f"it has no {column!r}"
        if name not in inputs or _is_picture(inputs[name]):
            continue
        given, was = as_recorded(row[column], kinds.get(name)), inputs[name]
        as_it_is = as_recorded(row[column], None)  # of a row that did not fit the inputs
        if _as_json(was) not in (_as_json(given), _as_json(as_it_is)) and not _is_same_number(row[column], was):
            return f"{column!r} is {_short(given)} and was {_short(was)}"
    return ""


def _as_json(value: Any) -> str:
    """Return a value as JSON; what is lacking in a file, promptflow reads as NaN, and so writes it."""
    return json.dumps(None if value != value else value, sort_keys=True, default=str)


def _is_same_number(given: Any, was: Any) -> bool:
    """Tell whether a number was given, as text maybe: 7 becomes 7.0 in a column that other rows lack."""
    try:
        return isinstance(given, (int, float)) and float(was) == given
    except (TypeError, ValueError):
        return False


def _is_picture(value: Any) -> bool:
    """Tell whether a value holds the path of a picture, which promptflow makes absolute."""
    return isinstance(value, (dict, list)) and "data:image" in json.dumps(value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
