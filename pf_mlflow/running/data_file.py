"""Rows that a script has in memory become a file, which promptflow reads and a resumed batch reads again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.private_names import promptflow_home

__all__ = ["data_file"]


def data_file(data: Any) -> Path | None:
    """Return the file of what a script gives as data: a file's path, a pandas frame, or dicts, a row each.

    Raises:
        BadInput: it is none of these.
    """
    if data is None or isinstance(data, str | Path):
        return Path(data) if data else None
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        data = _rows_of_frame(data)
    text = "".join(map(_line, _rows(data)))
    folder = promptflow_home() / "pf_mlflow_data"  # where promptflow keeps what a batch was run on and answered
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not path.exists():
        draft = path.with_suffix(f".{uuid4().hex}")  # nobody ever finds half a file under the name of the whole
        draft.touch(mode=0o600)
        draft.write_text(text, "utf-8")
        draft.replace(path)
    return path


def _rows_of_frame(frame: Any) -> list[dict[str, Any]]:
    """Return a frame's rows with every digit, what is missing as `None`, times as ISO texts."""
    if not frame.columns.is_unique:
        raise BadInput(f"The frame has two columns of one name among {list(frame.columns)}; give each its own.")
    return [{name: _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple | dict):
        return value
    try:
        is_missing = bool(value != value)
    except TypeError:  # as pandas.NA, of which nothing can be asked
        is_missing = True
    if is_missing:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _rows(data: Any) -> list[Mapping[str, Any]]:
    rows = list(data) if isinstance(data, Iterable) else [data]
    if isinstance(data, Mapping) or not all(isinstance(row, Mapping) for row in rows):
        raise BadInput(f"data={str(data)[:60]!r} cannot be used: give a file, a pandas frame, or a list of dicts.")
    return rows


def _line(row: Mapping[str, Any]) -> str:
    try:
        return f"{json.dumps(dict(row), ensure_ascii=False)}\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"The row {str(row)[:60]!r} cannot be written as JSON: {error}.") from error
