"""The span processor that completes each line's record while the flow runs."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from pf_mlflow.logs import never_fails, warn_once
from pf_mlflow.records.line import FAILED
from pf_mlflow.records.masking import cleaned, environment_secrets
from pf_mlflow.sources.live.line_openings import Opening
from pf_mlflow.sources.live.live_batches import LiveBatches
from pf_mlflow.sources.promptflow.flow import flow_nodes
from pf_mlflow.sources.promptflow.private_names import CurrentLine, line_of_attributes
from pf_mlflow.sources.promptflow.spans import is_root, line_record
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.store import is_full

__all__ = ["LineSpanProcessor"]


class LineSpanProcessor(SpanProcessor):
    """Collects the spans of each line and spools the line's record when its root span ends."""

    def __init__(self) -> None:
        self.batches = LiveBatches()
        self.opening = Opening()
        self._lines: dict[int, list[Span]] = {}
        self._named: dict[int, tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._looked = -1.0
        self._known_secrets: tuple[str, ...] = ()

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
            spans = self._lines.pop(span.context.trace_id, [])
            named = self._named.pop(span.context.trace_id, ())
        line = line_of_attributes(span.attributes or {})
        if line and spans:
            self._spool(line, [*spans[1:], span], named)

    @never_fails(None)
    def _spool(self, line: CurrentLine, spans: Sequence[ReadableSpan], named: tuple[str, ...], **failure: Any) -> None:
        place = self.batches.place(line, started=spans[-1].start_time)
        if place is None:
            return
        nodes = flow_nodes(Path.cwd())
        record = line_record(
            place.batch.uid,
            place.line_number,
            spans,
            named_nodes=named or nodes.named,
            llm_nodes=nodes.llm,
            run_name=line.run_name,
        )
        if place.batch.base_uid:
            if not record.scores:
                return
            record = replace(record, inputs={}, outputs={}, spans=())  # which the line that it scores has
        record = cleaned(replace(record, **failure), place.batch.content, self._secrets())
        self.opening.cancel(place)
        try:
            place.spool.complete_line(record.batch_uid, record.line_number, record.start, record.to_json())
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            warn_once(
                f"The spool {place.spool.folder} is full, by PF_MLFLOW_SPOOL_LIMIT or its disk: what it cannot keep is "
                f"taken from promptflow's folder when the batch is over, or by `pf-mlflow sync {place.batch.name}`."
            )
        deliver_in_background(place.spool, place.batch.uid)

    @never_fails(None)
    def give_up(self, line: CurrentLine, error: Exception) -> None:
        """Spool a line as failed that has not ended, whose time is up; whatever it still does is not told."""
        with self._lock:
            found = next((id for id, spans in self._lines.items() if _line_of(spans) == line), None)
            spans = self._lines.pop(found, []) if found is not None else []
            named = self._named.pop(found, ()) if found is not None else ()
        if spans:
            failure = {"status": FAILED, "end": time.time(), "error_type": type(error).__name__, "error": str(error)}
            self._spool(line, [*spans[1:], spans[0]], named, **failure)

    def _secrets(self) -> tuple[str, ...]:
        """Return the environment's secrets, looked for once a second: there may be hundreds of variables."""
        now = time.monotonic()
        if now - self._looked >= 1:
            self._looked, self._known_secrets = now, environment_secrets()
        return self._known_secrets

    def line_start(self) -> int | None:
        """Return when the current line's root span started, in nanoseconds of Unix time."""
        with self._lock:
            spans = self._lines.get(_trace_id())
        return spans[0].start_time if spans else None

    def line_inputs(self) -> str:
        """Return the current line's inputs as JSON, `""` if they are not known."""
        with self._lock:
            spans = self._lines.get(_trace_id())
        return str((spans[0].attributes or {}).get("inputs", "")) if spans else ""

    def name_nodes(self, names: tuple[str, ...]) -> None:
        """Record these nodes of the current line rather than every node that called an LLM."""
        with self._lock:
            if _trace_id() in self._lines:
                self._named[_trace_id()] = names


def _line_of(spans: Sequence[ReadableSpan]) -> CurrentLine | None:
    return line_of_attributes(spans[0].attributes or {})


def _trace_id() -> int:
    return trace.get_current_span().get_span_context().trace_id
