"""Which column goes to which input where the user does not say: the one of its name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.running.checks import check_data, output_names
from pf_mlflow.running.observer import Observer
from pf_mlflow.sources.promptflow.private_names import data_rows

__all__ = ["columns_of", "mapped_by_name", "sources_of", "tell_mapping"]

Sources = Mapping[str, Collection[str]]
"""What has columns, by its name in a mapping (`run.outputs`, `data`, `run.inputs`), the first that counts first."""

_SHOWN = 40
"""Characters of a default that are shown."""


def sources_of(columns: Collection[str] | None, outputs: Path | None = None, base_data: str | None = None) -> Sources:
    """Return the columns that a batch can take its inputs from.

    Args:
        columns: Those of its own data.
        outputs: The file of outputs of the batch that it runs on.
        base_data: The data of that one.
    """
    sources: dict[str, Collection[str]] = {"run.outputs": output_names(outputs) if outputs else ()}
    sources["data"] = columns or ()
    with suppress(BadInput):  # which nobody asked for: without them fewer inputs are found
        sources["run.inputs"] = columns_of(Path(base_data)) if base_data else ()
    return sources


def columns_of(data: Path) -> set[str]:
    """Return the columns of a data file; of another format than JSONL as promptflow reads it."""
    columns = check_data(data)
    if columns is not None:
        return columns
    rows = data_rows(data)
    if not rows:
        raise BadInput(f"The data {str(data)!r} are empty; give them a row each line of the batch.")
    return {str(name) for row in rows for name in row}


def mapped_by_name(
    inputs: Mapping[str, Any], given: Mapping[str, str], sources: Sources, data: Path | None
) -> dict[str, str]:
    """Return where inputs come from that the user does not map and that have a column of their name.

    Raises:
        BadInput: lines of the data lack that column, for which promptflow would not take the default.
    """
    found = {}
    for name in inputs:
        source = next((source for source, columns in sources.items() if name in columns), None)
        if name in given or source is None:
            continue
        if source == "data" and data and data.suffix.lower() == ".jsonl" and (line := _line_without(data, name)):
            raise BadInput(
                f"{data} line {line} has no column {name!r}, as other lines do; give it one, or one value to all lines "
                f"with --column-mapping {name}=VALUE."
            )
        found[name] = f"${{{source}.{name}}}"
    return found


def _line_without(data: Path, column: str) -> int | None:
    with data.open(encoding="utf-8-sig") as lines:
        return next(
            (n for n, line in enumerate(lines, 1) if line.strip() and column not in json.loads(line, strict=False)),
            None,
        )


def tell_mapping(
    observer: Observer, inputs: Mapping[str, Any], given: Mapping[str, str], found: Mapping[str, str]
) -> None:
    """Say what was mapped by name, and which inputs are the same on every line for want of a column."""
    if found:
        observer.tell(f"Mapped by name: {', '.join(f'{name}={source}' for name, source in found.items())}")
    if defaults := list(_defaults(inputs, {**given, **found})):
        observer.tell(f"Without column: {', '.join(defaults)} on every line, the flow's default")


def _defaults(inputs: Mapping[str, Any], mapping: Mapping[str, str]) -> Iterator[str]:
    for name, spec in inputs.items():
        if name not in mapping and isinstance(spec, Mapping) and "default" in spec:
            shown = repr(spec["default"])
            yield f"{name}={shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'}"
