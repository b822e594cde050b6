"""Reads the lines that promptflow keeps in a batch's folder as `LineRecord`s."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.records.line import COMPLETED, FAILED, LineRecord, Span
from pf_mlflow.scoring.saved_scores import SAVES, saved_scores
from pf_mlflow.sources.promptflow.run_record import RunRecord, seconds
from pf_mlflow.sources.promptflow.spans import tokens_of, told_error

__all__ = [
    "FlowNodes",
    "flow_nodes",
    "folder_lines",
    "is_evaluation",
    "lines_in_folder",
    "named_runs",
    "node_names",
    "saves_scores",
]

_ROOT = "0"


@dataclass(frozen=True)
class FlowNodes:
    """What a flow's YAML says of the nodes that each line executes."""

    all: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    """Nodes that the literal `record_nodes` input of a node names."""
    aggregates: bool = False
    """Whether the flow also has nodes that sum all lines up."""
    saves_scores: bool = False
    """Whether a node hands scores on that MLflow is to show."""


@lru_cache(maxsize=16)
def flow_nodes(flow_dir: Path) -> FlowNodes:
    """Return the nodes of the flow in a folder; nothing if it has no readable `flow.dag.yaml`."""
    try:
        dag = yaml.safe_load((flow_dir / "flow.dag.yaml").read_text(encoding="utf-8"))
        nodes = [node for node in dag["nodes"] if not node.get("aggregation")]
        aggregates = len(nodes) < len(dag["nodes"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return FlowNodes()
    named = next((n for node in nodes if (n := node_names((node.get("inputs") or {}).get("record_nodes")))), ())
    llm = tuple(node["name"] for node in nodes if {node.get("type"), _variant_type(dag, node)} & {"llm", "custom_llm"})
    saves = any(_saves_scores(node, flow_dir) for node in nodes)
    return FlowNodes(tuple(node["name"] for node in nodes), llm, named, aggregates, saves)


def _saves_scores(node: Mapping[str, Any], flow_dir: Path) -> bool:
    path = flow_dir / str((node.get("source") or {}).get("path", ""))
    try:
        return path.stem == SAVES or (path.suffix == ".py" and f"def {SAVES}(" in path.read_text("utf-8"))
    except (OSError, ValueError):  # it is among what the flow includes
        return False


def _variant_type(dag: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    variants = ((dag.get("node_variants") or {}).get(node.get("name")) or {}).get("variants") or {}
    return next((variant["node"].get("type") for variant in variants.values() if variant.get("node")), None)


def node_names(value: object) -> tuple[str, ...]:
    """Return the node names in a `record_nodes` value: a list, or text with commas; `${…}` is not known yet."""
    if isinstance(value, str):
        value = [] if value.startswith("${") else value.split(",")
    return tuple(str(name).strip() for name in value if str(name).strip()) if isinstance(value, (list, tuple)) else ()


def folder_lines(
    batch_uid: str,
    name: str,
    folder: Path,
    wanted: Callable[[int], bool] = lambda number: True,
    flow_dir: Path | None = None,
) -> Iterator[LineRecord]:
    """Yield the wanted lines that promptflow has kept in a batch's folder, in order of their numbers."""
    nodes = _flow(folder, flow_dir)
    for path in _line_files(folder):
        if not any(map(wanted, _numbers_in(path))):
            continue
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                line = json.loads(text)
                if wanted(line["line_number"]):
                    yield _line(batch_uid, name, line["line_number"], line["run_info"], nodes, folder)
            except (ValueError, KeyError, TypeError):  # a line that was being written when its writer was killed
                continue


def lines_in_folder(folder: Path) -> int:
    """Return how many lines promptflow has kept in a batch's folder, by the names of its files."""
    return sum(len(_numbers_in(path)) for path in _line_files(folder))


def named_runs(folder: Path) -> dict[int, str]:
    """Return the child run ids that a batch's outputs name, by line."""
    try:
        outputs = map(json.loads, (folder / "flow_outputs" / "output.jsonl").read_text("utf-8").splitlines())
        return {one["line_number"]: one["child_run_id"] for one in outputs if one.get("child_run_id")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def is_evaluation(record: RunRecord) -> bool:
    """Tell whether a batch scores the lines of another: it has a base batch, and its flow sums lines up."""
    return record.base_batch is not None and _flow(record.output_path or Path(), record.flow_dir).aggregates


def saves_scores(record: RunRecord) -> bool:
    """Tell whether the flow of a batch hands scores on: others only print them, or log promptflow's metrics."""
    return _flow(record.output_path or Path(), record.flow_dir).saves_scores


def _flow(folder: Path, flow_dir: Path | None) -> FlowNodes:
    """Return the nodes of the flow that ran: of promptflow's copy, which it makes at the end, else of the author's."""
    snapshot = folder / "snapshot"
    return flow_nodes(snapshot if flow_dir is None or (snapshot / "flow.dag.yaml").is_file() else flow_dir)


def _line_files(folder: Path) -> list[Path]:
    return sorted((folder / "flow_artifacts").glob("[0-9]*_*[0-9].jsonl"))


def _numbers_in(path: Path) -> range:
    """Return the line numbers in a file, which its name tells: `000000000_000000024.jsonl`."""
    first, _, last = path.stem.partition("_")
    return range(int(first), int(last) + 1)


def _line(uid: str, name: str, number: int, info: Mapping[str, Any], nodes: FlowNodes, folder: Path) -> LineRecord:
    start, end = seconds(info["start_time"]) or 0.0, seconds(info["end_time"])
    spans = tuple(_spans((info.get("api_calls") or [None])[0], None, None, _ROOT))
    if len(spans) <= 1:  # tracing was off
        spans = (_top_span(info), *_node_spans(folder, number))
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
        scores=saved_scores(spans),
    )


def _error(error: Mapping[str, Any] | None, spans: tuple[Span, ...]) -> tuple[str | None, str | None]:
    """Return type and message of a line's failure as the innermost call told it, else as promptflow keeps it."""
    if not error:
        return None, None
    debug = error.get("debugInfo") or {}
    kind, message = debug.get("type") or error.get("code") or "Error", str(error.get("message", ""))
    told = told_error(Span(_ROOT, "", "Flow", 0.0, error=message, error_type=kind), spans)
    return told if told != (kind, message) else _cause(error) or told


def _cause(error: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return type and message of what a node's or an entry's own code raised, `None` if promptflow did not keep it."""
    kept = [more.get("info") or {} for more in error.get("additionalInfo") or []]
    return next(((str(info["type"]), str(info.get("message", ""))) for info in kept if "type" in info), None)


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


def _top_span(info: Mapping[str, Any]) -> Span:
    return Span(_ROOT, "flow", "Flow", seconds(info["start_time"]) or 0.0, seconds(info.get("end_time")))


def _node_spans(folder: Path, line_number: int) -> Iterator[Span]:
    """Yield what promptflow kept of a line's nodes; of the calls below them it keeps nothing without tracing."""
    for number, path in enumerate(sorted((folder / "node_artifacts").glob(f"*/{line_number:09}.jsonl"))):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))["run_info"]
            start, end = seconds(info["start_time"]), seconds(info["end_time"])
        except (OSError, ValueError, KeyError, TypeError):  # a skipped node, or one that was being written
            continue
        error_type, error = _error(info.get("error"), ())
        inputs = info.get("inputs")
        yield Span(
            id=f"{_ROOT}.{number}",
            name=info["node"],
            kind="Function",
            start=start or 0.0,
            end=end,
            parent=_ROOT,
            node=info["node"],
            inputs=inputs if isinstance(inputs, Mapping) else {},
            output=info.get("output"),
            has_output=info.get("status") == COMPLETED,
            error=error,
            error_type=error_type,
        )


def _call_tokens(call: Mapping[str, Any]) -> Any:
    output = call.get("output")
    usage = output.get("usage") if call.get("type") == "LLM" and isinstance(output, Mapping) else None
    return tokens_of(usage) if isinstance(usage, Mapping) else None
