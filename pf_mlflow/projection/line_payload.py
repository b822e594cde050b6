"""What a record looks like as an MLflow run: its tags, params and metrics, within MLflow's limits. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pf_mlflow.records.line import COMPLETED, INTERRUPTED, LineRecord, Span, Tokens
from pf_mlflow.tracking.run_payload import PARAM_LIMIT, RunPayload, milliseconds

__all__ = ["is_model_setting", "line_payload", "tells_lines_apart"]

_MODEL_SETTINGS = set(
    "model deployment_name temperature top_p max_tokens stop seed response_format logit_bias presence_penalty "
    "frequency_penalty user functions function_call tools tool_choice n echo best_of suffix logprobs top_k detail "
    "stream connection".split()
)


def line_payload(record: LineRecord, display_name: str, param_limit: int = PARAM_LIMIT) -> RunPayload:
    """Return what a line's child run holds when the line is over.

    The unit is the LLM node: its inputs, its output, the tokens of all its LLM calls, its wall time in seconds.
    With several nodes, each one's values bear its name, and the token sums and the flow's first output none. The flow's
    own inputs are shown where the nodes' do not tell lines apart, for a line that reached no such node, and always
    those that bear a name under which a node's are not: there it is the rendered prompt.
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
    tells_apart = any(tells_lines_apart(name) for node in reached for name in node.inputs)
    others = {name: value for name, value in record.inputs.items() if f"input_{name}" not in payload.params}
    _add_inputs(payload, {n: v for n, v in others.items() if not (tells_apart and _is_shown(n))}, "", param_limit)
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
    _add_inputs(payload, {name: value for name, value in node.inputs.items() if _is_shown(name)}, prefix, limit)
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
        payload.add_param(f"{prefix}input_{name}", value, limit)


def _is_shown(name: str) -> bool:
    """Tell whether an input of a node is shown: its prompt, rendered for each line, is not."""
    return name != "prompt" and not name.startswith("_")


def tells_lines_apart(name: str) -> bool:
    """Tell whether an input of a node is shown and no mere setting of the model."""
    return _is_shown(name) and not is_model_setting(name)


def is_model_setting(name: str) -> bool:
    """Tell whether an input is a setting of the model by its name."""
    return name in _MODEL_SETTINGS


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
