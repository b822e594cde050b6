"""The running flow as a source: what its nodes, or whoever executes its lines, tell of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from pf_mlflow.logs import never_fails, warn_once
from pf_mlflow.records.batch import Batch
from pf_mlflow.sources.live.exit_notice import tell_at_exit
from pf_mlflow.sources.live.live_batches import LiveBatches
from pf_mlflow.sources.live.span_processor import LineSpanProcessor
from pf_mlflow.sources.promptflow.flow import flow_nodes, node_names
from pf_mlflow.sources.promptflow.private_names import CurrentLine, current_line

__all__ = [
    "attach",
    "batch_started",
    "begin_anew",
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


def begin_anew() -> None:
    """Take the settings for what comes from the environment as it is now."""
    _processor.batches = LiveBatches()


@never_fails(None)
def batch_started(name: str) -> Batch | None:
    """Make a batch known whose lines this process will execute; `None` if none of it is to be logged."""
    place = _processor.batches.place(CurrentLine(name, 0), None)
    return place.batch if place else None


@never_fails(None)
def line_started(name: str, number: int, inputs: Mapping[str, Any]) -> None:
    """Show a line of this process as RUNNING whose flow may have no node that does."""
    place = _processor.batches.place(CurrentLine(name, number), None)
    if place and not place.batch.base_uid:
        _processor.opening.start(place, json.dumps(inputs, default=str))


def line_given_up(name: str, number: int, error: Exception) -> None:
    """Show a line of this process as failed though it may never end."""
    _processor.give_up(CurrentLine(name, number), error)


@never_fails("")
def open_line() -> str:
    """Show the current line in MLflow as RUNNING and return its handle, `""` if nothing is to be logged."""
    line = current_line()
    place = _processor.batches.place(line, started=_processor.line_start()) if line else None
    if place is None or place.batch.base_uid:
        return ""
    if _processor.line_start() is None:
        warn_once(
            'tracing is off, so child runs lack tokens and the nodes\' values; set PF_DISABLE_TRACING: "false" '
            "under environment_variables in flow.dag.yaml."
        )
        if place.batch.single:  # promptflow keeps nothing of it that could tell later how it ended
            return ""
    _processor.opening.start(place, _processor.line_inputs())
    return f"{place.batch.uid}:{place.line_number}"


@never_fails(None)
def record_nodes(line: str, nodes: list[str] | str | None = None) -> None:
    """Name the nodes that the line's child run shows; none named: every node that called an LLM."""
    names = node_names(nodes)
    if not line or not names:
        return
    known = flow_nodes(Path.cwd()).all
    if missing := [name for name in names if known and name not in known]:
        warn_once(f"record_nodes names {', '.join(missing)!r}, but the flow's nodes are {', '.join(known)}.")
    _processor.name_nodes(names)


@never_fails("")
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
