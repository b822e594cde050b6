"""The span processor that completes each line's record while the flow runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from pf_mlflow.logs import guarded
from pf_mlflow.records.line import FAILED
from pf_mlflow.sources.live.live_source import LiveSource
from pf_mlflow.sources.promptflow.flow import flow_nodes
from pf_mlflow.sources.promptflow.private_names import CurrentLine, line_of_attributes
from pf_mlflow.sources.promptflow.spans import NANOSECONDS, is_root, line_record

__all__ = ["LineSpanProcessor"]


class LineSpanProcessor(SpanProcessor):
    """Collects the spans of each line and hands its record to the source when its root span ends."""

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self._lines: dict[int, list[Span]] = {}
        self._named: dict[int, tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: object = None) -> None:
        """Remember a span from its start, so that calls which never end are known as well."""
        trace_id = span.context.trace_id
        with self._lock:
            if is_root(span):
                self._lines[trace_id] = [span]
            elif trace_id in self._lines:
                self._lines[trace_id].append(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Spool the line when its root span has ended: on success, error and line time-out alike."""
        if not is_root(span):
            return
        with self._lock:
            spans, named = self._taken(span.context.trace_id)
        line = line_of_attributes(span.attributes or {})
        if line and spans:
            self._spool(line, [*spans[1:], span], named)

    @guarded(None)
    def _spool(self, line: CurrentLine, spans: Sequence[ReadableSpan], named: tuple[str, ...], **failure: Any) -> None:
        live = self.source.line(line.run_name, line.line_number, (spans[-1].start_time or 0) / NANOSECONDS)
        if live is None:
            return
        nodes = flow_nodes(Path.cwd())
        record = line_record(
            live.batch.uid,
            live.number,
            spans,
            named_nodes=named or nodes.named,
            llm_nodes=nodes.llm,
            run_name=line.run_name,
        )
        self.source.complete(live, replace(record, **failure))

    @guarded(None)
    def give_up(self, line: CurrentLine, error: Exception) -> None:
        """Spool a line as failed that has not ended, whose time is up; whatever it still does is left out."""
        with self._lock:
            ids = [id for id, spans in self._lines.items() if line_of_attributes(spans[0].attributes or {}) == line]
            spans, named = self._taken(ids[0]) if ids else ([], ())
        if spans:
            failure = {"status": FAILED, "end": time.time(), "error_type": type(error).__name__, "error": str(error)}
            self._spool(line, [*spans[1:], spans[0]], named, **failure)

    def _taken(self, trace_id: int) -> tuple[list[Span], tuple[str, ...]]:
        return self._lines.pop(trace_id, []), self._named.pop(trace_id, ())

    def line_start(self) -> float | None:
        """Return when the current line's root span started, in Unix seconds; `None` without tracing."""
        root = self._root()
        return root.start_time / NANOSECONDS if root and root.start_time else None

    def line_inputs(self) -> str:
        """Return the current line's inputs as JSON, `""` if they are not known."""
        root = self._root()
        return str((root.attributes or {}).get("inputs", "")) if root else ""

    def _root(self) -> Span | None:
        with self._lock:
            spans = self._lines.get(_trace_id())
        return spans[0] if spans else None

    def name_nodes(self, names: tuple[str, ...]) -> None:
        """Record these nodes of the current line rather than every node that called an LLM."""
        with self._lock:
            if _trace_id() in self._lines:
                self._named[_trace_id()] = names


def _trace_id() -> int:
    return trace.get_current_span().get_span_context().trace_id
