"""What is checked before the first LLM call: everything that would make the batch or its tracking pointless."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput

__all__ = ["check_data", "check_mapping"]


def check_data(data: Path) -> set[str] | None:
    """Return the columns of a data file, those of any line; raise `BadInput` naming what cannot be read.

    Lines of JSONL are read one by one; other formats are left to promptflow, and their columns are `None`.
    """
    if not data.exists():
        raise BadInput(f"The data file {str(data)!r} does not exist.")
    if data.suffix.lower() != ".jsonl":
        return None
    if data.is_dir():
        raise BadInput(f"{str(data)!r} is a folder; give it a file with one JSON object per line.")
    columns: set[str] = set()
    lines = 0
    with data.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                columns |= _columns(data, number, raw)
                lines += 1
    if not lines:
        raise BadInput(f"The data file {str(data)!r} is empty; give it one JSON object per line.")
    return columns


def _columns(data: Path, number: int, raw: bytes) -> set[str]:
    try:
        row = json.loads(raw)
    except ValueError as error:
        raise BadInput(f"{data} line {number} is no JSON ({error}): {raw[:60]!r}.") from error
    if not isinstance(row, dict):
        raise BadInput(f"{data} line {number} is no JSON object: {raw[:60]!r}.")
    return set(row)


def check_mapping(mapping: Mapping[str, str], columns: set[str] | None, dag: Mapping[str, Any], data: Path) -> None:
    """Raise `BadInput` if a mapping names an input or a column that there is not, or an input would get no value."""
    inputs = dag.get("inputs") or {}
    for name, source in mapping.items():
        if name not in inputs:
            raise BadInput(f"The flow has no input {name!r}; its inputs are {_listed(inputs)}.")
        column = re.fullmatch(r"\$\{data\.([^.}]+).*\}", str(source))
        if columns is not None and column and column[1] not in columns:
            raise BadInput(
                f"{data} has no column {column[1]!r} (mapped to {name!r}); its columns are {_listed(columns)}."
            )
    needed = [name for name, spec in inputs.items() if "default" not in (spec or {}) and name not in mapping]
    for name in needed:
        if columns is not None and name not in columns:
            raise BadInput(
                f"{data} has no column {name!r}, which the flow needs; map one with "
                f"--column-mapping {name}='${{data.COLUMN}}' (columns: {_listed(columns)})."
            )


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names))) or "none"
