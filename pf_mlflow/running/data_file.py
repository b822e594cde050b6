"""Rows that a script has in memory become a file, which promptflow reads and a resumed batch reads again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
    if hasattr(data, "to_json"):
        data = json.loads(data.to_json(orient="records", date_format="iso"))
    text = "".join(map(_line, _rows(data)))
    folder = promptflow_home() / "pf_mlflow_data"  # where promptflow keeps what a batch was run on and answered
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")
    return path


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
