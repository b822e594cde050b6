"""The span processor that completes each line's record while the flow runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from pf_mlflow.logs import guarded
from pf_mlflow.records.line import LineRecord
from pf_mlflow.sources.live.live_source import LiveSource
from pf_mlflow.sources.promptflow.flow import flow_nodes
from pf_mlflow.sources.promptflow.private_names import CurrentLine, current_line
from pf_mlflow.sources.promptflow.run_record import seconds
from pf_mlflow.sources.promptflow.spans import (
    NANOSECONDS,
    is_root,
    line_record,
    line_without_spans,
    with_last_word,
)

__all__ = ["LineSpanProcessor"]


_root_id: ContextVar[int | None] = ContextVar("pf_mlflow_root_id", default=None)
"""Id of the root span of the line that is executed in a context, and in those copied from it."""

_PRECISE = 1e-4
"""Seconds between which both clocks are read."""


def _clock() -> float:
    """Return by how much the system's clock is ahead of one that nobody sets, in seconds."""
    while True:
        before, now = time.monotonic(), time.time()
        if time.monotonic() - before < _PRECISE:  # no other thread ran in between
            return now - before


@dataclass
class _Line:
    """What is known of a line while it is executed."""

    line: CurrentLine
    spans: list[ReadableSpan]
    """Its root first."""
    clock: float = field(default_factory=_clock)
    named: tuple[str, ...] = ()
    """The nodes to record, as its flow has named them."""
    clock_set: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By how many seconds the clock had been set since the line began, at the start and at the end of spans."""

    def started(self, span: ReadableSpan) -> None:
        self.spans.append(span)
        self.clock_set[span.context.span_id] = (late := self.late(), late)

    def ended(self, span: ReadableSpan) -> None:
        self.clock_set[span.context.span_id] = (self.clock_set.get(span.context.span_id, (0.0,))[0], self.late())

    def late(self) -> float:
        return late if abs(late := _clock() - self.clock) > 10 * _PRECISE else 0.0


class LineSpanProcessor(SpanProcessor):
    """Collects the spans of each line and hands its record to the source when the line is over.

    That is when its root span ends, but where promptflow's own word on the line is known to follow: with that.
    """

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self._lines: dict[int, _Line] = {}
        """Lines that are being executed, by the id of their root span."""
        self._awaited: dict[CurrentLine, _Line | None] = {}
        """Lines on which promptflow has not said its last word, with what is known of those whose root has ended."""
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: object = None) -> None:
        """Remember a span from its start, so that calls which never end are known as well.

        The first one in a line is its root, also below a span of the application that has the flow executed.
        """
        root_id = _root_id.get()
        with self._lock:
            if root_id in self._lines:
                if span.parent is not None:
                    self._lines[root_id].started(span)
            elif (is_root(span) or root_id is None) and (line := current_line()):
                self._lines[span.context.span_id] = _Line(line, [span])
                _root_id.set(span.context.span_id)

    def on_end(self, span: ReadableSpan) -> None:
        """Take the line's spans when its root has ended: on success, error and line time-out alike."""
        root_id = span.context.span_id
        with self._lock:
            known = self._lines.get(root_id) or self._lines.get(_root_id.get() or 0)
            if known is None:
                return
            known.ended(span)
            if root_id not in self._lines:
                return
            del self._lines[root_id]
            known.spans[0] = span
            if known.line in self._awaited:
                self._awaited[known.line] = known
                known = None
        if _root_id.get() == root_id:
            _root_id.set(None)
        if known:
            self._spool(known)

    def await_word(self, line: CurrentLine) -> None:
        """Keep a line back until promptflow has said its last word on it."""
        with self._lock:
            self._awaited[line] = None

    def say(self, line: CurrentLine, info: Mapping[str, Any] | None, reached_nodes: bool = False) -> LineRecord | None:
        """Spool a line with promptflow's last word on it, and return its record; whatever it still does is left out.

        Args:
            line: One that was awaited; on another the last word was said before.
            info: promptflow's run info; `None` if it never came to one: the line counts as its spans tell it.
            reached_nodes: Whether promptflow's folder tells more of it than `info`, where there are no spans.
        """
        with self._lock:
            if line not in self._awaited:
                return None
            known = self._awaited.pop(line) or (self._going_on(line) if info else None)
        if known:
            return self._spool(known, info)
        return self._spool_without_spans(line, info) if info and not reached_nodes else None

    def _going_on(self, line: CurrentLine) -> _Line | None:
        """Take a line that has not ended."""
        root_id = next((id for id, known in self._lines.items() if known.line == line), None)
        return self._lines.pop(root_id) if root_id is not None else None

    @guarded(None)
    def _spool(self, known: _Line, info: Mapping[str, Any] | None = None) -> LineRecord | None:
        line, root = known.line, known.spans[0]
        live = self.source.line(line.run_name, line.line_number, (root.start_time or 0) / NANOSECONDS)
        if live is None:
            return None
        nodes = flow_nodes(Path.cwd())
        record = line_record(
            live.batch.uid,
            live.number,
            known.spans,
            known.clock_set,
            named_nodes=known.named or nodes.named,
            llm_nodes=nodes.llm,
            run_name=line.run_name,
        )
        if info:
            end = record.end if root.end_time else (seconds(info["end_time"]) or time.time()) - known.late()
            record = replace(with_last_word(record, info, nodes.handed_on), end=end)
        self.source.complete(live, record)
        return record

    @guarded(None)
    def _spool_without_spans(self, line: CurrentLine, info: Mapping[str, Any]) -> LineRecord | None:
        """Spool a line that failed before its flow began, or whose flow is not traced."""
        start, end = seconds(info["start_time"]) or time.time(), seconds(info["end_time"]) or time.time()
        live = self.source.line(line.run_name, line.line_number, start)
        if live is None:
            return None
        record = line_without_spans(live.batch.uid, live.number, info, start, end, line.run_name)
        self.source.complete(live, record)
        return record

    def line_start(self) -> float | None:
        """Return when the current line's root span started, in Unix seconds; `None` without tracing."""
        root = self._root()
        return root.start_time / NANOSECONDS if root and root.start_time else None

    def line_inputs(self) -> str:
        """Return the current line's inputs as JSON, `""` if they are not known."""
        root = self._root()
        return str((root.attributes or {}).get("inputs", "")) if root else ""

    def _root(self) -> ReadableSpan | None:
        with self._lock:
            known = self._lines.get(_root_id.get() or 0)
        return known.spans[0] if known else None

    def name_nodes(self, names: tuple[str, ...]) -> None:
        """Record these nodes of the current line rather than every node that called an LLM."""
        with self._lock:
            if known := self._lines.get(_root_id.get() or 0):
                known.named = names
