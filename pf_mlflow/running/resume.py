"""Whether completed lines of an earlier batch may stand beside new ones: same rows, same flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records.line import COMPLETED, ranges
from pf_mlflow.running.model_choice import Connections, with_connections
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder, flow_files_of
from pf_mlflow.sources.promptflow.flow import DAG, FLEX, read_dag, read_flow
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.row_check import wrong_rows
from pf_mlflow.sources.promptflow.run_record import RunRecord

__all__ = ["check_unchanged"]

_ANYWAY = "`--resume-changed` takes its completed lines over all the same"
_NO_MATTER = ("additional_includes", "node_variants", "name")
"""What promptflow takes out of its copy of a DAG, or adds to it."""
_SIGNATURE = ("inputs", "outputs", "init")
"""What promptflow adds to its copy of a flex flow: what the code says."""
_WRITTEN_BY_LINES = (".json", ".txt")
_NAMED = 10
"""How many lines are named at the most."""


def check_unchanged(base: RunRecord, connections: Connections) -> None:
    """Raise `BadInput` naming the lines, or the files of the flow, that are not those of the batch to resume.

    Args:
        base: The batch whose completed lines are to be taken over.
        connections: What nodes are given instead of what the flow names.
    """
    if lines := _other_rows(base):
        named = ranges(sorted(lines)[:_NAMED]) + (" and more" if len(lines) > _NAMED else "")
        raise BadInput(
            f"{lines[min(lines)]} {len(lines)} completed lines of {base.name!r} had other rows: {named}. Restore the "
            f"data; or {_ANYWAY}."
        )
    if files := list(_other_files(base, connections)):
        raise BadInput(
            f"The flow {base.flow_path} is not the one that {base.name!r} ran: {', '.join(files)} changed since. Its "
            f"completed lines would stand beside lines of another flow. Restore it, or run the data anew; or {_ANYWAY}."
        )


def _other_rows(base: RunRecord) -> dict[int, str]:
    if not base.data or not Path(base.data).exists():  # promptflow says so
        return {}
    completed = {line.line_number for line in BatchFolder.of(base).decided("") if line.status == COMPLETED}
    try:
        wrong = wrong_rows(promptflow_home(), base.name, Path(base.data))
    except BadInput:  # nothing tells which columns the inputs came from
        return {}
    return {number: f"{why.partition('. ')[0]}." for number, why in wrong.items() if number in completed}


def _other_files(base: RunRecord, connections: Connections) -> Iterator[str]:
    """Yield the names of the flow's files that are not as promptflow copied them when the batch ended."""
    folder, copy = base.flow_dir, base.flow_copy
    if folder is None:
        return
    if not copy.is_dir():
        yield from _newer_files(folder, base)
        return
    includes = _includes(folder)
    definitions = {DAG, FLEX, Path(base.flow_path or "").name}
    for path in flow_files_of(copy):
        name = path.relative_to(copy)
        now = includes.get(name.parts[0], folder / name.parts[0]).joinpath(*name.parts[1:])
        if name.as_posix() in definitions and (said := _definition(now, base, connections)) is not None:
            if said != _definition(path, base, {}):
                yield name.as_posix()
        elif not now.is_file() or now.read_bytes() != path.read_bytes():
            yield name.as_posix()


def _newer_files(folder: Path, base: RunRecord) -> Iterator[str]:
    """Yield which files were written since a batch began that was killed, or since its last line, if lines write them.

    Promptflow copies the flow when a batch ends, so nothing but the files' times tells.
    """
    last_line = BatchFolder.of(base).last_line_written()
    for path in flow_files_of(folder):
        since = last_line if path.suffix in _WRITTEN_BY_LINES else base.start
        if since and path.stat().st_mtime > since:
            yield path.name


def _includes(folder: Path) -> dict[str, Path]:
    """Return where files come from that the flow takes from elsewhere, by their first name in it."""
    with suppress(BadInput):
        paths = [(folder / str(one)).resolve() for one in read_dag(folder).get("additional_includes") or []]
        return {path.stem if path.suffix == ".zip" else path.name: path for path in paths}
    return {}


def _definition(path: Path, base: RunRecord, connections: Connections) -> Mapping[str, Any] | None:
    """Return what a flow's YAML says but for what each run may exchange: connections, and a variant's node."""
    if path.suffix not in (".yaml", ".yml"):
        return None
    try:
        flow = read_flow(path)
        if not flow.is_dag:
            return {key: value for key, value in flow.definition.items() if key not in _SIGNATURE}
        dag = with_connections(flow.definition, connections)
    except BadInput:
        return None
    tuned = (base.variant or "").removeprefix("${").partition(".")[0]
    nodes = [_without_connection(node) for node in dag["nodes"] if node["name"] != tuned]
    return {key: value for key, value in dag.items() if key not in _NO_MATTER} | {"nodes": nodes}


def _without_connection(node: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {name: value for name, value in (node.get("inputs") or {}).items() if name != "connection"}
    return {**{key: value for key, value in node.items() if key != "connection"}, "inputs": inputs}
