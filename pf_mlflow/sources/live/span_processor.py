"""The span processor that completes each line's record while the flow runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from pf_mlflow.logs import guarded
from pf_mlflow.sources.live.live_source import LiveSource
from pf_mlflow.sources.promptflow.flow import flow_nodes
from pf_mlflow.sources.promptflow.private_names import CurrentLine, line_of_attributes
from pf_mlflow.sources.promptflow.run_record import seconds
from pf_mlflow.sources.promptflow.spans import (
    NANOSECONDS,
    is_root,
    line_record,
    line_without_spans,
    with_last_word,
)

__all__ = ["LineSpanProcessor"]


_Ended = tuple[Sequence[ReadableSpan], tuple[str, ...]]
"""The spans of a line, its root last, and the nodes that its flow has named."""


class LineSpanProcessor(SpanProcessor):
    """Collects the spans of each line and hands its record to the source when the line is over.

    That is when its root span ends, but where promptflow's own word on the line is known to follow: with that.
    """

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self._lines: dict[int, list[Span]] = {}
        self._named: dict[int, tuple[str, ...]] = {}
        self._awaited: dict[CurrentLine, _Ended | None] = {}
        """Lines on which promptflow has not said its last word, with what is known of those whose root has ended."""
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
        """Take the line's spans when its root has ended: on success, error and line time-out alike."""
        if not is_root(span):
            return
        line = line_of_attributes(span.attributes or {})
        with self._lock:
            spans, named = self._taken(span.context.trace_id)
            if line is None or not spans:
                return
            ended = [*spans[1:], span], named
            if line in self._awaited:
                self._awaited[line] = ended
                return
        self._spool(line, *ended)

    def await_word(self, line: CurrentLine) -> None:
        """Keep a line back until promptflow has said its last word on it."""
        with self._lock:
            self._awaited[line] = None

    def say(self, line: CurrentLine, info: Mapping[str, Any] | None, reached_nodes: bool = False) -> None:
        """Spool a line with promptflow's last word on it; whatever it still does is left out.

        Args:
            line: One that was awaited; on another the last word was said before.
            info: promptflow's run info; `None` if it never came to one: the line counts as its spans tell it.
            reached_nodes: Whether promptflow's folder tells more of it than `info`, where there are no spans.
        """
        with self._lock:
            if line not in self._awaited:
                return
            ended = self._awaited.pop(line) or (self._going_on(line) if info else None)
        if ended:
            self._spool(line, *ended, info)
        elif info and not reached_nodes:
            self._spool_without_spans(line, info)

    def _going_on(self, line: CurrentLine) -> _Ended | None:
        """Take the spans of a line that has not ended."""
        ids = [id for id, spans in self._lines.items() if line_of_attributes(spans[0].attributes or {}) == line]
        spans, named = self._taken(ids[0]) if ids else ([], ())
        return ([*spans[1:], spans[0]], named) if spans else None

    def _taken(self, trace_id: int) -> tuple[list[Span], tuple[str, ...]]:
        return self._lines.pop(trace_id, []), self._named.pop(trace_id, ())

    @guarded(None)
    def _spool(
        self,
        line: CurrentLine,
        spans: Sequence[ReadableSpan],
        named: tuple[str, ...],
        info: Mapping[str, Any] | None = None,
    ) -> None:
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
        if info:
            end = record.end if spans[-1].end_time else seconds(info["end_time"]) or record.end
            record = replace(with_last_word(record, info, nodes.handed_on), end=end)
        self.source.complete(live, record)

    @guarded(None)
    def _spool_without_spans(self, line: CurrentLine, info: Mapping[str, Any]) -> None:
        """Spool a line that failed before its flow began, or whose flow is not traced."""
        start, end = seconds(info["start_time"]) or time.time(), seconds(info["end_time"]) or time.time()
        live = self.source.line(line.run_name, line.line_number, start)
        if live:
            self.source.complete(live, line_without_spans(live.batch.uid, live.number, info, start, end, line.run_name))

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
