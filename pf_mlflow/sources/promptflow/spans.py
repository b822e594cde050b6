"""Reads the OpenTelemetry spans that promptflow makes of a line into a `LineRecord`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from pf_mlflow.records.line import COMPLETED, FAILED, LineRecord, Span, Tokens, saved_scores

__all__ = [
    "NANOSECONDS",
    "ROOT",
    "answer_model",
    "answer_tokens",
    "error_of",
    "is_root",
    "line_record",
    "line_without_spans",
    "tokens_of",
    "with_last_word",
]

NANOSECONDS = 1e9
"""Nanoseconds, the unit of OpenTelemetry's times, in a second."""
_LARGEST = 2**63
_IMAGE = re.compile(r"data:image/[^;]+;path$")
ROOT = "0"
"""Id of the span of a line as a whole, where the source gives it none."""


def is_root(span: ReadableSpan) -> bool:
    """Tell whether a span is the outermost of this process; an endpoint's caller may have one above it."""
    return span.parent is None or span.parent.is_remote


def line_record(
    batch_uid: str,
    line_number: int,
    spans: Sequence[ReadableSpan],
    clock_set: Mapping[int, tuple[float, float]] = MappingProxyType({}),
    **more: Any,
) -> LineRecord:
    """Return the record of a line.

    Args:
        batch_uid: The batch's.
        line_number: The line's.
        spans: All its spans: the root has ended, others may not.
        clock_set: By how many seconds the clock had been set since the line began, when a span started and when it
            ended, by the span's id.
        more: Further fields.
    """
    ids = {span.context.span_id for span in spans}
    in_order = sorted(spans, key=lambda span: span.start_time or 0)
    top = next(span for span in in_order if span.parent is None or span.parent.span_id not in ids)
    read = _joined(_span(span, span is top, *clock_set.get(span.context.span_id, (0.0, 0.0))) for span in in_order)
    root = next(span for span in read if span.parent is None)
    error_type, error = _innermost_error(root, read)
    inputs = {name: value for name, value in root.inputs.items() if name != "line_number"}
    return LineRecord(
        batch_uid,
        line_number,
        FAILED if root.error is not None else COMPLETED,
        root.start,
        root.end if root.end is not None else root.start,
        inputs,
        _outputs(root),
        error,
        error_type,
        read,
        scores=saved_scores(read),
        **more,
    )


def line_without_spans(
    batch_uid: str, line_number: int, info: Mapping[str, Any], start: float, end: float, run_name: str
) -> LineRecord:
    """Return the record of a line of which there is nothing but promptflow's run info."""
    inputs = {name: value for name, value in (info["inputs"] or {}).items() if name != "line_number"}
    root = Span(ROOT, "flow", "Flow", start, end)
    record = LineRecord(batch_uid, line_number, FAILED, start, end, inputs, spans=(root,), run_name=run_name)
    return with_last_word(record, info)


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans with a streamed answer, which a node handed on piece by piece, as the text that it was."""
    spans = tuple(spans)
    texts = {_streamed(span.output) for span in spans if span.kind == "LLM" and isinstance(span.output, list)}
    joined = {span.id: text for span in spans if texts and (text := _text_of(span.output)) in texts}
    return tuple(replace(span, output=joined[span.id]) if span.id in joined else span for span in spans)


def _streamed(chunks: list[Any]) -> str:
    choices = [choice for chunk in chunks if isinstance(chunk, Mapping) for choice in chunk.get("choices") or []]
    return "".join((choice.get("delta") or {}).get("content") or choice.get("text") or "" for choice in choices)


def _text_of(pieces: Any) -> str | None:
    is_text = isinstance(pieces, list) and all(isinstance(piece, str) for piece in pieces)
    return "".join(pieces) if is_text else None


def _outputs(root: Span) -> Mapping[str, Any]:
    """Return the outputs of a flow; promptflow gives what is no mapping the name `output`."""
    if not root.has_output or isinstance(root.output, Mapping):
        return root.output or {}
    return {"output": root.output}


def _innermost_error(top: Span, spans: Sequence[Span]) -> tuple[str | None, str | None]:
    """Return type and message of a failure as the innermost call that failed has them.

    promptflow wraps errors on the way out (`ToolExecutionError: Execution failure in 'py': (ValueError) boom!`). A
    wrapped error's message stands inside its wrapper's; an error that was handled on the way does not.
    """
    if top.error is None:
        return None, None
    for below in spans:
        if below.parent == top.id and below.error is not None and _wraps(top, below):
            return _innermost_error(below, spans)
    return top.error_type, top.error


def _wraps(outer: Span, inner: Span) -> bool:
    if inner.error:
        return inner.error in (outer.error or "")
    return (inner.error_type or "") in f"{outer.error_type}: {outer.error}"


def with_last_word(
    record: LineRecord, info: Mapping[str, Any], handed_on: Mapping[str, str] = MappingProxyType({})
) -> LineRecord:
    """Return a line's record with status, error and outputs as promptflow has decided on them when its spans were over.

    Args:
        record: What is known of it by its spans.
        info: promptflow's run info.
        handed_on: The flow's outputs that are the whole output of a node, by that node. They are the node's output too:
            only in them a stream is joined.
    """
    completed = info["status"] == COMPLETED
    given = info.get("output") or {} if completed else {}
    images = dict(info.get("images") or {})
    outputs = _named({name: value for name, value in given.items() if name != "line_number"}, images)
    _named(info.get("inputs"), images)
    if images:
        record = _with_named(record, images)
    error_type, error = error_of(info.get("error"), record.spans)
    changed = {
        span.id: replace(span, output=outputs[handed_on[node]], has_output=True)
        for node, span in record.node_spans().items()
        if handed_on.get(node) in outputs
    }
    return replace(
        record,
        status=COMPLETED if completed else FAILED,
        outputs=outputs,
        error_type=error_type,
        error=error,
        spans=tuple(changed.get(span.id, span) for span in record.spans),
    )


def _with_named(record: LineRecord, images: dict[str, str]) -> LineRecord:
    """Return a record with its images named, but for what a model was asked and said."""

    def span(one: Span) -> Span:
        if one.kind == "LLM":
            return one
        return replace(one, inputs=_named(one.inputs, images), output=_named(one.output, images))

    return replace(record, inputs=_named(record.inputs, images), spans=tuple(map(span, record.spans)))


def _named(value: Any, known: dict[str, str]) -> Any:
    """Return a value with each image as promptflow names it, by its content; `known` has the names by their base64.

    Files hold images as files, which become known here, and spans as base64; text that looks so is no image.
    """
    if isinstance(value, str):
        return known.get(value.partition(";base64,")[2], value) if value.startswith("data:image/") else value
    if isinstance(value, list):
        return [_named(one, known) for one in value]
    if not isinstance(value, Mapping):
        return value
    if (image := _image(value)) is None:
        return {name: _named(one, known) for name, one in value.items()}
    encoded = base64.b64encode(image).decode()
    return known.setdefault(encoded, f"Image({hashlib.sha1(image).hexdigest()[:8]})")


def _image(value: Mapping[str, Any]) -> bytes | None:
    """Return the image that promptflow keeps as a file, in either of its two ways to write it."""
    kept = value.get("image_file") if value.get("type") == "image_file" else None
    paths = [kept.get("path")] if isinstance(kept, Mapping) else [value[kind] for kind in value if _IMAGE.match(kind)]
    try:
        return Path(str(paths[0])).read_bytes() if len(paths) == 1 and len(value) <= 2 else None
    except (OSError, ValueError):
        return None


def error_of(error: Mapping[str, Any] | None, spans: Sequence[Span]) -> tuple[str | None, str | None]:
    """Return type and message of a line's failure by the innermost call that failed, else as promptflow keeps it."""
    if not error:
        return None, None
    debug = error.get("debugInfo") or {}
    kind, message = debug.get("type") or error.get("code") or "Error", str(error.get("message", ""))
    root = next((span.id for span in spans if span.parent is None), ROOT)
    innermost = _innermost_error(Span(root, "", "Flow", 0.0, error=message, error_type=kind), spans)
    return innermost if innermost != (kind, message) else _cause(error) or innermost


def _cause(error: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return type and message of what a node's or an entry's own code raised, `None` if promptflow did not keep it."""
    kept = [more.get("info") or {} for more in error.get("additionalInfo") or []]
    return next(((str(info["type"]), str(info.get("message", ""))) for info in kept if "type" in info), None)


def tokens_of(usage: Mapping[str, Any], prefix: str = "") -> Tokens | None:
    """Return the counts of an OpenAI `usage`, tolerating absent, `None`, nested and nonsensical values."""
    counts = [_count(usage.get(f"{prefix}{kind}_tokens")) for kind in ("prompt", "completion", "total")]
    prompt, completion, total = counts
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    details = usage.get(f"{prefix}prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    return None if counts == [None, None, None] else Tokens(prompt, completion, total, cached)


def answer_tokens(answer: Any) -> Tokens | None:
    """Return the counts in an LLM's answer, `None` if it has none; one that was streamed is its chunks."""
    usage = _told(answer, "usage")
    return tokens_of(usage) if isinstance(usage, Mapping) else None


def answer_model(answer: Any) -> str | None:
    """Return the model that an LLM's answer names; one that was streamed is its chunks."""
    return _text_or_none(_told(answer, "model"))


def _told(answer: Any, key: str) -> Any:
    chunks = answer if isinstance(answer, list) else [answer]
    told = (chunk[key] for chunk in reversed(chunks) if isinstance(chunk, Mapping) and chunk.get(key))
    return next(told, None)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < _LARGEST else None


def _span(span: ReadableSpan, is_top: bool, start_late: float, end_late: float) -> Span:
    attributes = span.attributes or {}
    error_type, error = _status_error(span, is_top)
    inputs = _json(attributes.get("inputs"))
    has_output = "output" in attributes and error is None
    output = _json(attributes.get("output"))
    answer = output if attributes.get("span_type") == "LLM" else None
    return Span(
        id=_hex(span.context.span_id),
        name=span.name,
        kind=str(attributes.get("span_type", "")),
        start=(span.start_time or 0) / NANOSECONDS - start_late,
        end=span.end_time / NANOSECONDS - end_late if span.end_time else None,
        parent=None if is_top or span.parent is None else _hex(span.parent.span_id),
        node=_text_or_none(attributes.get("node_name")),
        inputs=inputs if isinstance(inputs, Mapping) else {},
        output=output if has_output else None,
        has_output=has_output,
        error=error,
        error_type=error_type,
        tokens=_span_tokens(attributes, answer),
        model=_text_or_none(attributes.get("llm.response.model")) or answer_model(answer),
    )


def _span_tokens(attributes: Mapping[str, Any], answer: Any) -> Tokens | None:
    """Read the call's own `usage` where it stands: promptflow's sums fail on some answers, and lack what is nested."""
    tokens, told = tokens_of(attributes, "llm.usage."), answer_tokens(answer)
    return replace(tokens, cached=told.cached) if tokens and told else tokens or told


def _status_error(span: ReadableSpan, is_top: bool) -> tuple[str | None, str | None]:
    if is_top and span.end_time and span.status.status_code is StatusCode.UNSET:
        return "SystemExit", "a node left the flow before its end, as `sys.exit()` does"
    if span.status.status_code is not StatusCode.ERROR:
        return None, None
    description = span.status.description or "Error"
    kind, _, message = description.partition(": ")
    return (kind, message) if re.fullmatch(r"[\w.]+", kind) else ("Error", description)


def _json(value: Any) -> Any:
    """Return what an attribute's JSON says; text that is no JSON stands for itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _hex(span_id: int) -> str:
    return f"{span_id:016x}"
