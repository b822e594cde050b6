"""Reads what promptflow keeps of one line when it is over, its run info, into a `LineRecord`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pf_mlflow.records.line import COMPLETED, FAILED, LineRecord, Span, saved_scores
from pf_mlflow.sources.promptflow.flow import FlowNodes
from pf_mlflow.sources.promptflow.run_record import seconds
from pf_mlflow.sources.promptflow.spans import ROOT, answer_model, answer_tokens, error_of, with_last_word

__all__ = ["line_of_run_info"]


def line_of_run_info(
    batch_uid: str, name: str, number: int, info: Mapping[str, Any], nodes: FlowNodes, folder: Path
) -> LineRecord:
    """Return the record of a line of the batch `name`, of which promptflow keeps `info` and more in its folder."""
    start, end = seconds(info["start_time"]) or 0.0, seconds(info["end_time"])
    spans = _without_lost_streams(tuple(_spans((info.get("api_calls") or [None])[0], None, None, ROOT)))
    taken = spans[0].inputs if spans else {}  # of a flex flow, `info` has the row's other columns too
    if len(spans) <= 1:  # tracing was off
        spans = (Span(ROOT, "flow", "Flow", start, end), *_node_spans(folder, number))
    of_batch = str(info["run_id"]).rpartition("_")[0]
    inputs = {k: v for k, v in (taken or info.get("inputs") or {}).items() if k != "line_number"}
    record = LineRecord(
        batch_uid,
        number,
        FAILED,
        start,
        end if end is not None else start,
        inputs,
        spans=spans,
        named_nodes=nodes.named,
        llm_nodes=nodes.llm,
        run_name=name,
        copied_from=of_batch if of_batch != name else None,
        scores=saved_scores(spans),
    )
    return with_last_word(record, info, nodes.handed_on)


def _spans(call: Mapping[str, Any] | None, parent: str | None, node: str | None, path: str) -> Iterator[Span]:
    """Turn promptflow's tree of calls into spans; a span's id is its place in the tree."""
    if not isinstance(call, Mapping):
        return
    node = None if parent is None else node or call.get("node_name")
    error = call.get("error") or {}
    inputs, output = call.get("inputs"), call.get("output")
    is_llm = call.get("type") == "LLM"
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
        tokens=answer_tokens(output) if is_llm else None,
        model=answer_model(output) if is_llm else None,
    )
    for index, below in enumerate(call.get("children") or []):
        yield from _spans(below, path, node, f"{path}.{index}")


def _without_lost_streams(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Return spans without the outputs that were a model's stream: of one that was handed on promptflow keeps `[]`."""
    if not any(span.kind == "LLM" and span.output == [] for span in spans):
        return spans
    return tuple(replace(span, has_output=False) if span.output == [] else span for span in spans)


def _node_spans(folder: Path, line_number: int) -> Iterator[Span]:
    """Yield what promptflow kept of a line's nodes; of the calls below them it keeps nothing without tracing."""
    for number, path in enumerate(sorted((folder / "node_artifacts").glob(f"*/{line_number:09}.jsonl"))):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))["run_info"]
            start, end = seconds(info["start_time"]), seconds(info["end_time"])
        except (OSError, ValueError, KeyError, TypeError):  # a skipped node, or one that was being written
            continue
        error_type, error = error_of(info.get("error"), ())
        inputs = info.get("inputs")
        yield Span(
            id=f"{ROOT}.{number}",
            name=info["node"],
            kind="Function",
            start=start or 0.0,
            end=end,
            parent=ROOT,
            node=info["node"],
            inputs=inputs if isinstance(inputs, Mapping) else {},
            output=info.get("output"),
            has_output=info.get("status") == COMPLETED,
            error=error,
            error_type=error_type,
        )
