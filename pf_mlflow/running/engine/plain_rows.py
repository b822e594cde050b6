"""Reads the rows of a batch without pandas, half a second's import, where promptflow's reader would not change them.

pandas turns columns of some names into dates, numbers beside `null` into floats, and column names into numbers or times
where all of them can be; whatever could be so is left to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import promptflow.batch._batch_inputs_processor as inputs_processor

from pf_mlflow.running.engine.replaced import replaced

__all__ = ["plain_rows", "read_plainly"]

_load_data = inputs_processor.load_data

_TIMES = (
    "jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat sun toda now hour min sec inf na no nu"
)
_NO_TIME_NO_NUMBER = re.compile(rf"(?!{'|'.join(_TIMES.split())})[a-z][a-z_]{{3,}}", re.I)
"""Names of columns that nothing takes for a day or a number; one such among them keeps the others as they are."""
_DATES = re.compile(r".*_(at|time)|modified|date|datetime|timestamp.*", re.I | re.S)
_LIMIT = 2**63
_DEEPEST = 20


def read_plainly() -> AbstractContextManager[None]:
    """Have promptflow read batches so while the block lasts."""
    return replaced(inputs_processor, "load_data", _rows)


def _rows(local_path: Any, **options: Any) -> Any:
    rows = plain_rows(Path(local_path)) if options.get("max_rows_count") is None else None
    return _load_data(local_path, **options) if rows is None else rows


def plain_rows(path: Path) -> list[dict[str, Any]] | None:
    """Return the rows of a file of JSON lines, `None` if promptflow's reader could make something else of them."""
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_bytes().decode("utf-8").split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None
    if not rows or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        return None
    columns = list(rows[0])
    if not any(map(_NO_TIME_NO_NUMBER.fullmatch, columns)) or any(map(_DATES.fullmatch, columns)):
        return None
    if not all(_is_text(name) and _is_kept([row[name] for row in rows]) for name in columns):
        return None
    return [{name: row[name] for name in columns} for row in rows]


def _is_kept(values: Iterable[Any]) -> bool:
    """Tell whether a column is of one kind, which pandas keeps."""
    kinds = {type(value) for value in values}
    return (len(kinds) == 1 or kinds == {str, type(None)}) and all(_is_plain(value) for value in values)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether a value is what every reader of JSON makes of it: floats are read less exactly by pandas."""
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, int):
        return -_LIMIT <= value < _LIMIT
    if isinstance(value, dict | list) and depth < _DEEPEST:
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return all(_is_plain(one, depth + 1) for one in inner)
    return value is None


def _is_text(value: str) -> bool:
    """Tell whether a text is whole: it has no half of a pair of surrogates."""
    return value.isascii() or not re.search("[\ud800-\udfff]", value)
