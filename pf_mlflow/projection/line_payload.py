"""What a record looks like as an MLflow run: its tags, params and metrics, within MLflow's limits. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pf_mlflow.projection.cost import add_cost
from pf_mlflow.records.latency import elapsed, time_in
from pf_mlflow.records.line import COMPLETED, INTERRUPTED, LineRecord, Span, Tokens
from pf_mlflow.tracking.prices import Prices
from pf_mlflow.tracking.run_payload import PARAM_LIMIT, RunPayload, milliseconds

__all__ = ["is_model_setting", "line_payload"]

_MODEL_SETTINGS = set(
    "model deployment_name temperature top_p max_tokens stop seed response_format logit_bias presence_penalty "
    "frequency_penalty user functions function_call tools tool_choice n echo best_of suffix logprobs top_k detail "
    "stream connection".split()
)


def line_payload(
    record: LineRecord, display_name: str, param_limit: int = PARAM_LIMIT, prices: Prices | None = None
) -> RunPayload:
    """Return what a line's child run holds when the line is over.

    The unit is the LLM node: its inputs, its output, the tokens of all its LLM calls, its wall time in seconds; inputs
    of the flow that do not reach it are added. With several nodes, each one's values bear its name, and those without
    one are the line's: the flow's inputs, its first output, the token sums, the time in which a node ran. Outputs come
    last: a long one pushes all else down.
    """
    completed = record.status == COMPLETED
    start, end = milliseconds(record.start), milliseconds(max(record.start, record.end))
    payload = RunPayload("FINISHED" if completed else "FAILED", start, end)
    payload.add_param("run_display_name", display_name, param_limit)
    spans = record.node_spans()
    names = record.recorded_nodes()
    reached = [spans[name] for name in names if name in spans]
    prefixes = {node.id: f"{node.node}." if len(names) > 1 else "" for node in reached}
    is_one = len(names) == 1
    own = {name for node in reached for name in node.inputs if is_one and _is_shown(name)}
    of_flow = {name: value for name, value in record.inputs.items() if name not in own}
    if not is_one:
        _add_inputs(payload, of_flow, "", param_limit)
    for node in reached:
        shown = {name: value for name, value in node.inputs.items() if _is_shown(name)}
        _add_inputs(payload, shown, prefixes[node.id], param_limit)
    if is_one:
        _add_inputs(payload, of_flow, "", param_limit)
    for node in reached:
        if node.has_output:
            payload.add_param(f"{prefixes[node.id]}output", node.output, param_limit)
    if not (is_one and "output" in payload.params) and record.outputs and not record.scores:
        payload.add_param("output", next(iter(record.outputs.values())), param_limit)
    _add_numbers(payload, record, names, reached, prefixes, prices or Prices())
    return payload


def _add_numbers(
    payload: RunPayload,
    record: LineRecord,
    names: Sequence[str],
    reached: Sequence[Span],
    prefixes: Mapping[str, str],
    prices: Prices,
) -> None:
    for node in reached:
        _add_tokens(payload, record.llm_calls(node), prefixes[node.id])
        add_cost(payload, record.llm_calls(node), prefixes[node.id], prices)
        payload.add_metric(f"{prefixes[node.id]}duration", elapsed(node.start, _end(node, record)))
    calls = [call for node in reached for call in record.llm_calls(node)]
    if not names:  # no nodes at all: a flex flow, a prompty
        calls = [span for span in record.spans if span.kind == "LLM"]
    if len(names) != 1:
        _add_tokens(payload, calls, "")
        add_cost(payload, calls, "", prices)
    if len(names) > 1:
        payload.add_metric("duration", time_in([(node.start, _end(node, record)) for node in reached]))
    if record.error_type != INTERRUPTED:
        payload.add_metric("line_duration", elapsed(record.start, record.end))
    _add_late_tags(payload, record, calls)


def _end(node: Span, record: LineRecord) -> float:
    return record.end if node.end is None else node.end


def _add_inputs(payload: RunPayload, inputs: Mapping[str, Any], prefix: str, limit: int) -> None:
    for name, value in inputs.items():
        payload.add_param(f"{prefix}input_{name}", value, limit)


def _is_shown(name: str) -> bool:
    """Tell whether an input of a node is shown: its prompt, rendered for each line, is not."""
    return name != "prompt" and not name.startswith("_")


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
