"""What is checked before the first LLM call: everything that would make the batch or its tracking pointless."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput

__all__ = ["check_data", "check_mapping", "check_outputs", "check_sources", "output_names"]

_ELSEWHERE = re.compile(r"(?:https?|azureml|wasbs?|abfss?|s3|gs|dbfs):")
_TABLES = (".csv", ".tsv", ".json", ".parquet")
_LINE_SHOWN = 60
"""Characters of a line that are shown at the most."""
_LONG_NUMBER = re.compile(rb"\d{19}")
_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_COLUMN = re.compile(r"\$\{(data|run\.outputs|run\.inputs)\.([^{}]+)\}")
_NEARLY_COLUMN = re.compile(r"\$?\{*\s*(data|run\.outputs|run\.inputs)\.([^\s{}]+)\s*\}*")
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
"""What promptflow's reader takes for an integer, and for a number's part before its point."""


def check_data(data: Path) -> set[str] | None:
    """Return the columns of a data file, those of any line; raise `BadInput` naming what cannot be read.

    Lines of JSONL, and of a file whose kind its name does not tell, are read one by one; other formats and folders are
    left to promptflow, and their columns are `None`.
    """
    if not data.exists():
        elsewhere = any(_ELSEWHERE.match(part) for part in data.parts)
        remedy = " Addresses are not read: get the file, and name that." if elsewhere else ""
        raise BadInput(f"The data file {str(data)!r} does not exist.{remedy}")
    is_lines = data.suffix.lower() == ".jsonl"
    if is_lines and data.is_dir():
        raise BadInput(f"{str(data)!r} is a folder; give it a file with one JSON object per line.")
    if data.is_dir() or data.suffix in _TABLES:
        return None
    try:
        return _columns_of_lines(data)
    except BadInput as error:
        if is_lines:
            raise
        raise BadInput(
            f"The data file {str(data)!r} is in no format that promptflow reads; save it as .jsonl, "
            f"{', '.join(_TABLES)}."
        ) from error


def _columns_of_lines(data: Path) -> set[str]:
    columns: set[str] = set()
    lines = 0
    with data.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if raw.strip():
                columns |= _columns(data, number, raw)
                lines += 1
    if not lines:
        raise BadInput(f"The data file {str(data)!r} is empty; give it one JSON object per line.")
    return columns


def _columns(data: Path, number: int, raw: bytes) -> set[str]:
    try:
        row = json.loads(raw.decode("utf-8").rstrip(), strict=False)
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):
            raise BadInput(f"{data} line {number} is not UTF-8; save the file as UTF-8.") from error
        why = f"{error.msg}, column {error.colno}"
        raise BadInput(f"{data} line {number} is no JSON ({why}); mend or remove it: {_shown(raw)}") from error
    except RecursionError as error:
        raise BadInput(f"{data} line {number} is nested too deeply; mend or remove it: {_shown(raw)}") from error
    if not isinstance(row, dict):
        raise BadInput(f'{data} line {number} is no JSON object, as {{"input": "value"}}: {_shown(raw)}')
    if _LONG_NUMBER.search(raw):
        _check_numbers(data, number, raw)
    return set(row)


def _shown(raw: bytes) -> str:
    text = raw.decode("utf-8", "backslashreplace").strip()
    return text if len(text) <= _LINE_SHOWN else f"{text[:_LINE_SHOWN]} …"


class _TooLarge:
    """Stands for a number that promptflow's reader refuses, and that no JSON can be made of."""


def _check_numbers(data: Path, number: int, raw: bytes) -> None:
    def read(literal: str) -> object:
        whole = int(re.match(r"-?\d+", literal)[0])  # type: ignore[index]
        return whole if _SMALLEST <= whole <= _LARGEST else _TooLarge()

    for name, value in json.loads(raw, parse_int=read, parse_float=read, strict=False).items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise BadInput(
                f"{data} line {number} has a number of more than 64 bits in the column {name!r}, which promptflow "
                "cannot read; write it as text, in quotes."
            ) from error


def check_sources(mapping: Mapping[str, str], has_data: bool, has_base: bool) -> None:
    """Raise `BadInput` if a mapping means a column and would give all lines its text, or names what is not there.

    Args:
        mapping: What the user says, by input.
        has_data: Whether there are data to take columns from.
        has_base: Whether there is a batch to take outputs from.
    """
    for name, source in mapping.items():
        said = f"--column-mapping {name}='{source}'"
        if found := _COLUMN.fullmatch(str(source)):
            if found[1] == "data" and not has_data:
                raise BadInput(f"{said} cannot be used: there are no data; name them with --data FILE.")
            if found[1] != "data" and not has_base:
                raise BadInput(f"{said} cannot be used: there is no other batch; name one with --run BATCH.")
        elif meant := _NEARLY_COLUMN.fullmatch(str(source)):
            right = f"${{{meant[1]}.{meant[2]}}}"
            raise BadInput(f"{said} is this text on every line; for a column write {name}='{right}'.")
        elif _REFERENCE.fullmatch(str(source)):
            raise BadInput(f"{said} names no column; write {name}='${{data.COLUMN}}'.")


def check_mapping(mapping: Mapping[str, str], columns: set[str] | None, dag: Mapping[str, Any], data: Path) -> None:
    """Raise `BadInput` if a mapping names an input or a column that there is not, or an input would get no value."""
    inputs = dag.get("inputs") or {}
    for name, source in mapping.items():
        if name not in inputs:
            raise BadInput(f"The flow has no input {name!r}; its inputs are {_listed(inputs)}.")
        column = re.fullmatch(r"\$\{data\.([^{}]+)\}", str(source))
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
    if mapping and not any(str(source).startswith("$") for source in mapping.values()):
        told = ", ".join(f"{name}={source}" for name, source in mapping.items())
        raise BadInput(
            f"No column goes to any input, so all lines would be the same ({told}); map one with "
            f"--column-mapping {next(iter(mapping))}='${{data.COLUMN}}'."
        )


def check_outputs(mapping: Mapping[str, str], outputs: Path, batch: str) -> None:
    """Raise `BadInput` if a mapping names an output that no line of a finished batch has, by its file of outputs."""
    known = output_names(outputs)
    for name, source in mapping.items():
        output = re.fullmatch(r"\$\{run\.outputs\.([^{}]+)\}", str(source))
        if output and known and output[1] not in known:
            raise BadInput(
                f"The batch {batch!r} has no output {output[1]!r} (mapped to {name!r}); its outputs are "
                f"{_listed(known)}."
            )


def output_names(outputs: Path) -> set[str]:
    """Return the outputs that lines of a finished batch have, by its file of outputs; none if that cannot be read."""
    try:
        with outputs.open(encoding="utf-8") as lines:
            return {name for line in lines if line.strip() for name in json.loads(line, strict=False)} - {"line_number"}
    except (OSError, ValueError, TypeError):  # promptflow says what it makes of that
        return set()


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names))) or "none"
