"""What a record looks like as an MLflow run: its tags, params and metrics, within MLflow's limits. Needs no mlflow."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from pf_mlflow.records import COMPLETED, INTERRUPTED, Batch, LineRecord, Span, Tokens

__all__ = [
    "LINE",
    "NOT_LOGGED",
    "PARAM_LIMIT",
    "RunPayload",
    "SINGLE",
    "VERSION",
    "child_name",
    "child_tags",
    "line_payload",
    "path_of_whole",
    "readable",
    "run_tags",
    "tells_lines_apart",
]

PARAM_LIMIT = 6000
"""Characters that MLflow takes in a param's value (`mlflow.utils.validation.MAX_PARAM_VAL_LENGTH`)."""
TAG_LIMIT = 5000
"""Characters that every MLflow 3 takes in a tag's value."""
LINE = "promptflow.line_number"
SINGLE = "promptflow.single_number"
"""Tag of a single execution: which of its process's, so that it is written once."""
VERSION = "/v1"
"""What the name of a score's metric ends with, as those of MLflow's own evaluation do."""
NOT_LOGGED = "promptflow.not_logged"
"""Tag of a run whose values MLflow refused: why."""
_KEY_LIMIT = 240
"""Characters of a key; MLflow takes 250, the rest is for telling apart keys that became the same."""
_LARGEST = 2.0**63
"""Metrics from here on are no measurements; neither NaN nor infinity is below it."""
_LONG_VALUES = "long_values"
_MODEL_SETTINGS = set(
    "model deployment_name temperature top_p max_tokens stop seed response_format logit_bias presence_penalty "
    "frequency_penalty user functions function_call tools tool_choice n echo best_of suffix logprobs top_k detail "
    "stream connection".split()
)


@dataclass
class RunPayload:
    """What is written to a run: `texts` are artifacts by path, `status` and times (ms) end it."""

    status: str
    start_ms: int
    end_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def without(self, known: RunPayload) -> RunPayload:
        """Return what a run that shows `known` lacks of this; what it has may be richer, and params never change."""
        lacking = replace(self)
        for kind in ("params", "metrics", "tags"):
            mine, has = getattr(self, kind), getattr(known, kind)
            setattr(lacking, kind, {key: value for key, value in mine.items() if key not in has})
        shown = " ".join(chain(known.params.values(), known.tags.values()))
        lacking.texts = {path: text for path, text in self.texts.items() if path not in shown}
        return lacking

    def add_param(self, key: str, value: Any, limit: int = PARAM_LIMIT) -> None:
        """Add a param under a name that MLflow takes; a value that is too long is cut and kept whole as a text."""
        key = _free_key(valid_key(key), self.params)
        self.params[key] = self._fitting(key, readable(value), limit)

    def add_tag(self, key: str, value: str, limit: int = TAG_LIMIT) -> None:
        """Add a tag; a value that is too long is cut and kept whole as a text."""
        self.tags[key] = self._fitting(key, readable(value), limit)

    def add_metric(self, key: str, value: float | None) -> None:
        """Add a metric unless its value is unknown: absent, not zero."""
        if value is not None and abs(value) < _LARGEST:
            self.metrics[valid_key(key)] = float(value)

    def _fitting(self, key: str, text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        path = _free_key(f"{_LONG_VALUES}/{re.sub(r'[^A-Za-z0-9._-]', '_', key)}", self.texts, ".txt")
        self.texts[path] = text
        mark = f" … [cut: {len(text)} characters, all of them in the artifact {path}]"
        return text[: limit - len(mark)] + mark


def path_of_whole(value: str) -> str | None:
    """Return the artifact that keeps the whole of a value which was cut, `None` if it was not."""
    cut = re.search(rf" … \[cut: \d+ characters, all of them in the artifact ({_LONG_VALUES}/\S+)\]$", value)
    return cut[1] if cut else None


def child_name(line_number: int) -> str:
    """Return the name of a line's child run."""
    return f"Run {line_number:09}"


def run_tags(batch: Batch, run_name: str) -> dict[str, str]:
    """Return the tags that every run of a batch, and the run of a single execution, is created with."""
    return {
        "framework": "Prompt Flow",
        "promptflow.run_id": readable(run_name),
        "promptflow.batch_uid": batch.uid,
        "mlflow.user": readable(batch.user),
        "mlflow.source.name": readable(batch.flow_name),
    }


def child_tags(batch: Batch, line_number: int, parent_run_id: str | None) -> dict[str, str]:
    """Return the tags that a line's run is created with; that of a single execution has no parent."""
    if parent_run_id is None:
        return run_tags(batch, batch.name) | {SINGLE: str(line_number)}
    line = {LINE: str(line_number), "mlflow.parentRunId": parent_run_id}
    return run_tags(batch, batch.name) | line


def line_payload(record: LineRecord, display_name: str, param_limit: int = PARAM_LIMIT) -> RunPayload:
    """Return what a line's child run holds when the line is over.

    The unit is the LLM node: its inputs, its output, the tokens of all its LLM calls, its wall time in seconds.
    With several nodes, each one's values bear its name, and the token sums and the flow's first output none. The flow's
    own inputs are shown where the nodes' do not tell lines apart, and for a line that reached no such node.
    """
    completed = record.status == COMPLETED
    start, end = milliseconds(record.start), milliseconds(max(record.start, record.end))
    payload = RunPayload("FINISHED" if completed else "FAILED", start, end)
    payload.add_param("run_display_name", display_name, param_limit)
    spans = record.node_spans()
    names = record.recorded_nodes()
    reached = [spans[name] for name in names if name in spans]
    for node in reached:
        _add_node(payload, record, node, f"{node.node}." if len(names) > 1 else "", param_limit)
    if not any(tells_lines_apart(name) for node in reached for name in node.inputs):
        others = {name: value for name, value in record.inputs.items() if f"input_{name}" not in payload.params}
        _add_inputs(payload, others, "", param_limit)
    if (len(names) > 1 or not reached) and record.outputs and not record.scores:
        payload.add_param("output", next(iter(record.outputs.values())), param_limit)
    calls = [call for node in reached for call in record.llm_calls(node)]
    if not names:  # no nodes at all: a flex flow, a prompty
        calls = [span for span in record.spans if span.kind == "LLM"]
    if len(names) != 1:
        _add_tokens(payload, calls, "")
    if record.error_type != INTERRUPTED:
        payload.add_metric("line_duration", _elapsed(record.start, record.end))
    _add_late_tags(payload, record, calls)
    return payload


def _add_node(payload: RunPayload, record: LineRecord, node: Span, prefix: str, limit: int) -> None:
    _add_inputs(payload, node.inputs, prefix, limit)
    if node.has_output:
        payload.add_param(f"{prefix}output", node.output, limit)
    _add_tokens(payload, record.llm_calls(node), prefix)
    end = node.end if node.end is not None else record.end
    payload.add_metric(f"{prefix}duration", _elapsed(node.start, end))


def _elapsed(start: float, end: float) -> float | None:
    """Return seconds; `None` if the clock was set back meanwhile."""
    return end - start if end >= start else None


def _add_inputs(payload: RunPayload, inputs: Mapping[str, Any], prefix: str, limit: int) -> None:
    for name, value in inputs.items():
        if _is_shown(name):
            payload.add_param(f"{prefix}input_{name}", value, limit)


def _is_shown(name: str) -> bool:
    return name != "prompt" and not name.startswith("_")


def tells_lines_apart(name: str) -> bool:
    """Tell whether an input of a node is shown and no mere setting of the model."""
    return _is_shown(name) and name not in _MODEL_SETTINGS


def _add_tokens(payload: RunPayload, calls: Any, prefix: str) -> None:
    told = [call.tokens for call in calls if call.tokens]
    tokens = sum(told, Tokens())
    payload.add_metric(f"{prefix}prompt_tokens", tokens.prompt)
    payload.add_metric(f"{prefix}completion_tokens", tokens.completion)
    payload.add_metric(f"{prefix}total_tokens", tokens.total)


def _add_late_tags(payload: RunPayload, record: LineRecord, calls: list[Span]) -> None:
    if models := list(dict.fromkeys(call.model for call in calls if call.model)):
        payload.add_tag("response_model", ", ".join(models))
    if record.error_type is not None:
        told = f"{record.error_type}: {record.error}" if record.error else record.error_type
        payload.add_tag("promptflow.error", told)
        payload.add_tag("promptflow.error_type", record.error_type)
    if record.copied_from:
        payload.add_tag("promptflow.copied_from", record.copied_from)


def readable(value: Any) -> str:
    r"""Return a value as text that every backend takes: strings as they are, lists and dicts as JSON, others as `str`.

    NUL bytes become `␀` (PostgreSQL refuses them), lone surrogates `\udXXX` (no UTF-8 has them).
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, (Mapping, list, tuple)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text.replace("\0", "␀").encode("utf-8", "backslashreplace").decode("utf-8")


def milliseconds(seconds: float) -> int:
    """Return a Unix time in the unit of MLflow's run times."""
    return round(seconds * 1000)


def batches_of(values: Mapping[str, str], most: int = 100, most_bytes: int = 700_000) -> Iterator[dict[str, str]]:
    """Split params or tags into requests that MLflow takes: 100 entries, 1 MB of JSON."""
    part: dict[str, str] = {}
    size = 0
    for key, value in values.items():
        item = len(json.dumps(key)) + len(json.dumps(value)) + 30
        if part and (len(part) == most or size + item > most_bytes):
            yield part
            part, size = {}, 0
        part[key] = value
        size += item
    if part:
        yield part


def valid_key(key: str, limit: int = _KEY_LIMIT) -> str:
    """Return a name that MLflow takes as a key, or as the beginning of one."""
    key = re.sub(r"[^\w.\- ]", "_", readable(key)).strip() or "_"
    if len(key) > limit:
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        key = f"{key[: limit - 9]}_{digest}"
    return f"_{key[1:]}" if key.startswith("..") or key == "." else key


def _free_key(key: str, taken: Mapping[str, Any], suffix: str = "") -> str:
    candidates = chain([f"{key}{suffix}"], (f"{key}_{number}{suffix}" for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
