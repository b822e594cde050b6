"""The running flow as a source: a span processor completes each line's record, three nodes open, mark and close it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from pf_mlflow.errors import PfMlflowError
from pf_mlflow.finished_batch import flow_nodes, node_names
from pf_mlflow.launch import deliver_in_background
from pf_mlflow.live_batch import LiveBatches
from pf_mlflow.opening import Opening
from pf_mlflow.promptflow_private import CurrentLine, batch_logger, current_line, line_of_attributes
from pf_mlflow.promptflow_spans import is_root, line_record
from pf_mlflow.records import FAILED, Batch
from pf_mlflow.scrub import cleaned, environment_secrets
from pf_mlflow.spool import is_full
from pf_mlflow.told import tell_at_exit

__all__ = [
    "LineSpanProcessor",
    "attach",
    "batch_started",
    "child_run_id",
    "line_given_up",
    "line_started",
    "open_line",
    "record_nodes",
]

_RUN_ID_WAIT = 0.05
"""Seconds that the end of a line may wait for its child run's id …"""
_RUN_ID_SHARE = 0.01
"""… and which share of the line's own time at most."""

P = ParamSpec("P")
T = TypeVar("T")


def _never_fails(otherwise: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Tracking trouble never fails a line: log it once per kind and hand on `otherwise`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever fails here is tracking's, and is logged
                _warn_once(_told(function.__name__, error), error)
                return otherwise  # type: ignore[no-any-return]

        return guarded

    return decorate


def _told(what: str, error: Exception) -> str:
    if isinstance(error, (OSError, sqlite3.Error)):
        return (
            f"{what}: the spool cannot be used ({error}); bring the batch into MLflow afterwards with `pf-mlflow sync`."
        )
    return f"{what}: {type(error).__name__}: {error}"


_warned: set[str] = set()


def _warn_once(message: str, error: BaseException | None = None) -> None:
    if message not in _warned:
        _warned.add(message)
        expected = isinstance(error, (PfMlflowError, OSError, sqlite3.Error)) or error is None
        batch_logger().warning("pf-mlflow: %s", message, exc_info=None if expected else error)


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

    @_never_fails(None)
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
        record = cleaned(replace(record, **failure), place.batch.content, self._secrets())
        self.opening.cancel(place)
        try:
            place.spool.complete_line(record.batch_uid, record.line_number, record.start, record.to_json())
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            _warn_once(
                f"The spool {place.spool.folder} is full, by PF_MLFLOW_SPOOL_LIMIT or its disk: what it cannot keep is "
                f"taken from promptflow's folder when the batch is over, or by `pf-mlflow sync {place.batch.name}`."
            )
        deliver_in_background(place.spool, place.batch.uid)

    @_never_fails(None)
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


_processor = LineSpanProcessor()
_ids_come = False


def attach() -> None:
    """Attach the span processor to this process's tracer provider, once.

    Call it when a node module is imported: only then does it stand before the first line's root span starts. It needs
    no environment variable, since promptflow imports node modules in processes that have none of the flow's.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    if not getattr(provider, "_pf_mlflow_attached", False):
        provider._pf_mlflow_attached = True  # type: ignore[attr-defined]
        provider.add_span_processor(_processor)
    tell_at_exit()


@_never_fails(None)
def batch_started(name: str) -> Batch | None:
    """Make a batch known whose lines this process will execute; `None` if none of it is to be logged."""
    place = _processor.batches.place(CurrentLine(name, 0), None)
    return place.batch if place else None


@_never_fails(None)
def line_started(name: str, number: int, inputs: Mapping[str, Any]) -> None:
    """Show a line of this process as RUNNING whose flow may have no node that does."""
    place = _processor.batches.place(CurrentLine(name, number), None)
    if place:
        _processor.opening.start(place, json.dumps(inputs, default=str))


def line_given_up(name: str, number: int, error: Exception) -> None:
    """Show a line of this process as failed though it may never end."""
    _processor.give_up(CurrentLine(name, number), error)


@_never_fails("")
def open_line() -> str:
    """Show the current line in MLflow as RUNNING and return its handle, `""` if nothing is to be logged."""
    line = current_line()
    place = _processor.batches.place(line, started=_processor.line_start()) if line else None
    if place is None:
        return ""
    if _processor.line_start() is None:
        _warn_once(
            'tracing is off, so child runs lack tokens and the nodes\' values; set PF_DISABLE_TRACING: "false" '
            "under environment_variables in flow.dag.yaml."
        )
        if place.batch.single:  # promptflow keeps nothing of it that could tell later how it ended
            return ""
    _processor.opening.start(place, _processor.line_inputs())
    return f"{place.batch.uid}:{place.line_number}"


@_never_fails(None)
def record_nodes(line: str, nodes: list[str] | str | None = None) -> None:
    """Name the nodes that the line's child run shows; none named: every node that called an LLM."""
    names = node_names(nodes)
    if not line or not names:
        return
    known = flow_nodes(Path.cwd()).all
    if missing := [name for name in names if known and name not in known]:
        _warn_once(f"record_nodes names {', '.join(missing)!r}, but the flow's nodes are {', '.join(known)}.")
    _processor.name_nodes(names)


@_never_fails("")
def child_run_id(line: str) -> str:
    """Return the id of the line's child run if MLflow has made it by now, else `""`.

    Waits up to 1 % of the line's time and 50 ms, and only while ids come: with MLflow down, no line waits for one.
    """
    global _ids_come
    if not line:
        return ""
    uid, _, number = line.rpartition(":")
    until = time.monotonic() + (_patience() if _ids_come else 0.0)
    while not (found := _processor.batches.spool.run_id(uid, int(number))) and time.monotonic() < until:
        time.sleep(0.002)
    _ids_come = bool(found)
    return found


def _patience() -> float:
    started = _processor.line_start()
    elapsed = time.time() - started / 1e9 if started else 0.0
    return min(_RUN_ID_WAIT, _RUN_ID_SHARE * elapsed)
