"""Where the inputs of an evaluation come from: the batch that it scores, its data, or a file of finished answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.running.mapping import columns_of
from pf_mlflow.scoring.line_fields import NOTHING
from pf_mlflow.sources.promptflow.flow import saves_scores
from pf_mlflow.sources.promptflow.private_names import data_rows, promptflow_home
from pf_mlflow.sources.promptflow.row_check import first_with_data, wrong_rows
from pf_mlflow.sources.promptflow.run_record import RunRecord

__all__ = ["CONTROLS", "data_of", "mapping_of", "told_as_text"]

_ID = "child_run_id"
CONTROLS = frozenset({"metrics", "judge_model", _ID})
"""Inputs that no column of the data may set: options do, or the batch."""
_FOUND = ("question", "ground_truth", "context", "answer")
"""Inputs that come from columns of their name where only the flow's code tells which inputs there are."""


def data_of(base: RunRecord | None) -> tuple[Path | None, str]:
    """Return the batch's own data, whose other columns may be of use, or why what it was run on is of none."""
    record = base and first_with_data(promptflow_home(), base.name)
    if base is None or record is None or not record.data:
        return None, ""
    path = Path(record.data)
    if not path.exists():
        return None, f"{str(path)!r}, which {record.name!r} was run on, is not there any more."
    try:
        wrong_rows(promptflow_home(), base.name, path)
    except BadInput as error:  # nobody asked for these data: without them there is less to score by
        return None, str(error)
    return path, ""


def mapping_of(
    base: RunRecord | None,
    data: Path | None,
    given: Mapping[str, str],
    inputs: Mapping[str, Any] | None,
    is_own: bool,
) -> dict[str, str]:
    """Return where the inputs of an evaluation flow come from: by their names, and as the user says.

    Args:
        base: The batch to score; `None` if the data have the answers.
        data: A file of rows; of a batch its own.
        given: What the user says.
        inputs: Those of the flow; `None` where only its code tells them.
        is_own: Whether the data are what the batch was run on, by its record.

    Raises:
        BadInput: the rows are others, or nobody can tell what the answer is.
    """
    columns = sorted(columns_of(data)) if data else []
    names = [name for name in inputs if name not in CONTROLS] if inputs else _FOUND
    found = {name: f"${{data.{name}}}" for name in names if name in columns}
    if base:
        if data:
            _check_rows(base.name, data, is_given=not is_own)
        if _scored_itself(base):
            found |= _from_finished_answers(base, data is not None)
        else:
            outputs = _outputs(base)
            found |= {name: f"${{run.outputs.{name}}}" for name in names if name in outputs and name not in _FOUND}
            found |= _from_batch(base, data is not None, found, given, inputs is None or "answer" in inputs)
    wanted = {name: source for name, source in found.items() if inputs is None or name in inputs}
    mapping = {**wanted, **given}
    if "answer" not in mapping and (inputs is None or "answer" in inputs):
        raise BadInput(
            f"{str(data)!r} has no column 'answer' (its columns are {', '.join(columns)}); name the one that holds the "
            "answers: --column-mapping answer='${data.COLUMN}'."
        )
    return mapping


def told_as_text(data: Path, mapping: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each column that inputs come from and that rows of a file have nothing in."""
    rows = data_rows(data)
    for name, source in mapping.items():
        column = str(source).removeprefix("${data.").removesuffix("}")
        lacking = [number for number, row in enumerate(rows) if str(row.get(column)) in NOTHING]
        if source == f"${{data.{column}}}" and lacking:
            yield (
                f"{len(lacking)} rows of {str(data)!r}, as row {lacking[0]}, have nothing in the column {column!r}: "
                f"promptflow makes the text {str(rows[lacking[0]].get(column))!r} of it for the input {name!r}. "
                "`pf_mlflow.scoring.LineFields.of` takes that for nothing; other code must too."
            )


def _check_rows(base: str, data: Path, is_given: bool) -> None:
    wrong = wrong_rows(promptflow_home(), base, data)
    if wrong:
        remedy = "" if is_given else " That file was changed since."
        raise BadInput(f"{wrong[min(wrong)]}{remedy} {len(wrong)} rows differ; nothing was scored.")


def _scored_itself(base: RunRecord) -> bool:
    """Tell whether a batch scored answers in its own data: what it put out are their scores."""
    has_answers = str(base.column_mapping.get("answer", "")).startswith("${data.")
    return has_answers and base.base_batch is None and saves_scores(base.flow_as_run)


def _from_finished_answers(base: RunRecord, has_data: bool) -> dict[str, str]:
    """Return where a batch that scored answers in a file took them from."""
    if not has_data:
        raise BadInput(
            f"The answers of {base.name!r} are in the file that it was run on, {base.data!r}, which cannot be used: "
            "restore it, or give the same rows with --data."
        )
    return {name: source for name, source in base.column_mapping.items() if str(source).startswith("${data.")}


def _from_batch(
    base: RunRecord, has_data: bool, found: Mapping[str, str], given: Mapping[str, str], wants_answer: bool
) -> dict[str, str]:
    outputs = _outputs(base)
    names = [name for name in outputs if name not in (_ID, "line_number")]
    mapping = {_ID: f"${{run.outputs.{_ID}}}"} if _ID in outputs else {}
    if "context" in names:
        mapping["context"] = "${run.outputs.context}"
    sources = [source for source in base.column_mapping.values() if str(source).startswith("${data.")]
    if has_data and "question" not in found and len(sources) == 1:
        mapping["question"] = sources[0]
    if "answer" in given or not wants_answer:
        return mapping
    answer = "answer" if "answer" in names else names[0] if len(names) == 1 else None
    if answer is None:
        raise BadInput(
            f"Which output of {base.name!r} is the answer? It has {', '.join(names) or 'none'}; say "
            f"--column-mapping answer='${{run.outputs.{names[0] if names else 'NAME'}}}'."
        )
    return mapping | {"answer": f"${{run.outputs.{answer}}}"}


def _outputs(base: RunRecord) -> dict[str, Any]:
    """Return the outputs of a batch's first completed line."""
    path = base.folder / "flow_outputs" / "output.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:
            first: dict[str, Any] = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise BadInput(f"The outputs of the batch {base.name!r} cannot be read: {error}.") from error
    return first
