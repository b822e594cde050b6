"""Reads what promptflow keeps of a batch: its run record, and the lines in its folder as `LineRecord`s."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.promptflow_private import run_database
from pf_mlflow.promptflow_spans import tokens_of, told_error
from pf_mlflow.records import COMPLETED, FAILED, LineRecord, Span

__all__ = ["FlowNodes", "RunRecord", "batch_uid", "flow_nodes", "folder_lines", "run_record"]

_ROOT = "0"
_OVER = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}


@dataclass(frozen=True)
class RunRecord:
    """What promptflow's own database says of a batch. Times are Unix seconds."""

    name: str
    created_on: str
    status: str
    display_name: str
    start: float | None
    end: float | None
    data: str | None
    flow_path: str | None
    output_path: Path | None
    variant: str | None
    base_batch: str | None
    lines_failed: int

    @property
    def mlflow_status(self) -> str | None:
        """The status of the parent run, `None` while the batch goes on."""
        return _OVER.get(self.status)

    @property
    def flow_dir(self) -> Path | None:
        """The folder of the flow as its author knows it, not the copy that it may run in."""
        if not self.flow_path:
            return None
        path = Path(self.flow_path)
        return path.parent if path.suffix in (".yaml", ".yml", ".prompty", ".py") else path


def run_record(home: Path, name: str) -> RunRecord | None:
    """Return promptflow's record of a batch, `None` if there is none under that name."""
    database = run_database(home)
    if not database.is_file():
        return None
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        db.row_factory = sqlite3.Row
        row = db.execute("SELECT * FROM run_info WHERE name = ?", (name,)).fetchone()
    return _record(row) if row else None


def _record(row: sqlite3.Row) -> RunRecord:
    properties = json.loads(row["properties"] or "{}")
    output_path = properties.get("output_path")
    return RunRecord(
        name=row["name"],
        created_on=row["created_on"],
        status=row["status"],
        display_name=row["display_name"] or row["name"],
        start=_seconds(row["start_time"]),
        end=_seconds(row["end_time"]),
        data=row["data"],
        flow_path=properties.get("flow_path"),
        output_path=Path(output_path) if output_path else None,
        variant=properties.get("node_variant"),
        base_batch=properties.get("run"),
        lines_failed=(properties.get("system_metrics") or {}).get("__pf__.lines.failed") or 0,
    )


def batch_uid(home: Path, name: str, created_on: str) -> str:
    """Return what tells this batch from others of its name: another user's, another machine's, one made anew."""
    return hashlib.sha256(f"{home}\n{name}\n{created_on}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class FlowNodes:
    """What a flow's YAML says of the nodes that each line executes."""

    all: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    """Nodes that the literal `record_nodes` input of a node names."""


@lru_cache(maxsize=16)
def flow_nodes(flow_dir: Path) -> FlowNodes:
    """Return the nodes of the flow in a folder; nothing if it has no readable `flow.dag.yaml`."""
    try:
        dag = yaml.safe_load((flow_dir / "flow.dag.yaml").read_text(encoding="utf-8"))
        nodes = [node for node in dag["nodes"] if not node.get("aggregation")]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return FlowNodes()
    named = next((n for node in nodes if (n := node_names((node.get("inputs") or {}).get("record_nodes")))), ())
    llm = tuple(node["name"] for node in nodes if node.get("type") == "llm" or _variant_type(dag, node) == "llm")
    return FlowNodes(tuple(node["name"] for node in nodes), llm, named)


def _variant_type(dag: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    variants = ((dag.get("node_variants") or {}).get(node.get("name")) or {}).get("variants") or {}
    return next((variant["node"].get("type") for variant in variants.values() if variant.get("node")), None)


def node_names(value: object) -> tuple[str, ...]:
    """Return the node names in a `record_nodes` value: a list, or text with commas; `${…}` is not known yet."""
    if isinstance(value, str):
        value = [] if value.startswith("${") else value.split(",")
    return tuple(str(name).strip() for name in value if str(name).strip()) if isinstance(value, (list, tuple)) else ()


def folder_lines(
    batch_uid: str, name: str, folder: Path, wanted: Callable[[int], bool] = lambda number: True
) -> Iterator[LineRecord]:
    """Yield the wanted lines that promptflow has kept in a batch's folder, in order of their numbers."""
    nodes = flow_nodes(folder / "snapshot")
    for path in sorted((folder / "flow_artifacts").glob("[0-9]*_*[0-9].jsonl")):
        if not any(map(wanted, _numbers_in(path))):
            continue
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                line = json.loads(text)
                if wanted(line["line_number"]):
                    yield _line(batch_uid, name, line["line_number"], line["run_info"], nodes)
            except (ValueError, KeyError, TypeError):  # a line that was being written when its writer was killed
                continue


def _numbers_in(path: Path) -> range:
    """Return the line numbers in a file, which its name tells: `000000000_000000024.jsonl`."""
    first, _, last = path.stem.partition("_")
    return range(int(first), int(last) + 1)


def _line(uid: str, name: str, number: int, info: Mapping[str, Any], nodes: FlowNodes) -> LineRecord:
    start, end = _seconds(info["start_time"]) or 0.0, _seconds(info["end_time"])
    spans = tuple(_spans((info.get("api_calls") or [None])[0], None, None, _ROOT))
    error_type, error = _error(info.get("error"), spans)
    of_batch = str(info["run_id"]).rpartition("_")[0]
    inputs = {k: v for k, v in (info.get("inputs") or {}).items() if k != "line_number"}
    return LineRecord(
        uid,
        number,
        COMPLETED if info["status"] == COMPLETED else FAILED,
        start,
        end if end is not None else start,
        inputs,
        info.get("output") or {},
        error,
        error_type,
        spans,
        nodes.named,
        nodes.llm,
        run_name=name,
        copied_from=of_batch if of_batch != name else None,
    )


def _error(error: Mapping[str, Any] | None, spans: tuple[Span, ...]) -> tuple[str | None, str | None]:
    if not error:
        return None, None
    debug = error.get("debugInfo") or {}
    kind, message = debug.get("type") or error.get("code") or "Error", str(error.get("message", ""))
    return told_error(Span(_ROOT, "", "Flow", 0.0, error=message, error_type=kind), spans)


def _spans(call: Mapping[str, Any] | None, parent: str | None, node: str | None, path: str) -> Iterator[Span]:
    """Turn promptflow's tree of calls into spans; a span's id is its place in the tree."""
    if not isinstance(call, Mapping):
        return
    node = None if parent is None else node or call.get("node_name")
    error = call.get("error") or {}
    inputs, output = call.get("inputs"), call.get("output")
    yield Span(
        id=path,
        name=str(call.get("name")),
        kind=str(call.get("type")),
        start=call.get("start_time") or 0.0,
        end=call.get("end_time"),
        parent=parent,
        node=node,
        inputs=inputs if isinstance(inputs, Mapping) else {},
        output=output,
        has_output=not error and call.get("end_time") is not None,
        error=error.get("message") if error else None,
        error_type=error.get("type") if error else None,
        tokens=_call_tokens(call),
        model=output.get("model") if call.get("type") == "LLM" and isinstance(output, Mapping) else None,
    )
    for index, below in enumerate(call.get("children") or []):
        yield from _spans(below, path, node, f"{path}.{index}")


def _call_tokens(call: Mapping[str, Any]) -> Any:
    output = call.get("output")
    usage = output.get("usage") if call.get("type") == "LLM" and isinstance(output, Mapping) else None
    return tokens_of(usage) if isinstance(usage, Mapping) else None


def _seconds(value: str | None) -> float | None:
    return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() if value else None
