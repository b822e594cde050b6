"""What a running flow's nodes, and whoever executes its lines, call. Tracking trouble never fails a line."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from pf_mlflow.logs import guarded, warn_into, warn_once
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import LineRecord
from pf_mlflow.settings import Settings, leave_foreign_folder
from pf_mlflow.sources.live.line_openings import LineOpenings
from pf_mlflow.sources.live.live_source import LiveSource
from pf_mlflow.sources.live.span_processor import LineSpanProcessor
from pf_mlflow.sources.promptflow.flow import flow_nodes, node_names
from pf_mlflow.sources.promptflow.private_names import (
    CurrentLine,
    batch_logger,
    current_line,
    last_word,
    runs_batches,
    watch_workers,
)
from pf_mlflow.spool.processes import outliving_client_by_a_line

__all__ = [
    "attach",
    "batch_started",
    "child_run_id",
    "line_ended",
    "line_started",
    "open_line",
    "record_nodes",
    "use_settings",
]

_RUN_ID_WAIT = 0.05
"""Seconds that the end of a line may wait for its child run's id."""
_RUN_ID_SHARE = 0.01
"""Share of the line's own time that its end may wait for its child run's id."""

_processor = LineSpanProcessor(LiveSource(LineOpenings()))
warn_into(batch_logger)


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
    if multiprocessing.parent_process():
        watch_workers(_executing)
    else:  # promptflow's own children have nothing to say
        from pf_mlflow.sources.live.exit_notice import notify_at_exit

        if runs_batches():
            from pf_mlflow.sources.promptflow.pool_processes import server_ends_with_client

            server_ends_with_client()
        leave_foreign_folder(sys.argv)
        notify_at_exit()


def use_settings(settings: Settings) -> None:
    """Let these settings hold for the lines that come."""
    _processor.source = LiveSource(_processor.source.openings, settings)


@guarded(None)
def batch_started(name: str) -> Batch | None:
    """Make a batch known whose lines this process will execute; `None` if none of it is to be logged."""
    return _processor.source.batch(name)


@guarded(None)
def line_started(name: str, number: int, inputs: Mapping[str, Any]) -> None:
    """Show a line of this process as RUNNING whose flow may have no node that does; `line_ended` follows."""
    _processor.await_word(CurrentLine(name, number))
    line = _processor.source.line(name, number)
    if line and line.has_run:
        _processor.source.open(line, inputs)


def line_ended(name: str, number: int, inputs: Mapping[str, Any], result: Any) -> LineRecord | None:
    """Take promptflow's word on a line of this process for its last, though the line may go on; once a line.

    Returns its record, `None` if there is none.

    Args:
        name: The batch's.
        number: The line's.
        inputs: The line's, for the case that its flow never began.
        result: promptflow's `LineResult`.
    """
    return _say(CurrentLine(name, number), inputs, result)


@guarded(None)
def _say(line: CurrentLine, inputs: Mapping[str, Any], result: Any) -> LineRecord | None:
    word = last_word(result.run_info)
    word["inputs"] = word["inputs"] or inputs
    return _processor.say(line, word, bool(result.node_run_infos))


@contextmanager
def _executing(line: CurrentLine, inputs: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Let a worker's line be over when promptflow's pool has the result that the block puts into the list."""
    with outliving_client_by_a_line():
        _processor.await_word(line)
        results: list[Any] = []
        try:
            yield results
        finally:
            if results:
                _say(line, inputs, results[0])
            _processor.say(line, None)


@guarded("")
def open_line() -> str:
    """Show the current line in MLflow as RUNNING and return its handle, `""` if nothing is to be logged."""
    current, started, source = current_line(), _processor.line_start(), _processor.source
    if current is None or not source.logs(current.line_number):
        return ""
    if current.line_number is None and started is None:
        _warn_of_tracing()  # and promptflow keeps nothing of it that could tell later how it ended
        return ""
    line = source.line(current.run_name, current.line_number, started)
    if line is None or not line.has_run:
        return ""
    if started is None:
        _warn_of_tracing()
    source.open(line, _processor.line_inputs())
    return f"{line.batch.uid}:{line.number}"


def _warn_of_tracing() -> None:
    warn_once(
        'tracing is off, so child runs lack tokens and the nodes\' values; set PF_DISABLE_TRACING: "false" '
        "under environment_variables in flow.dag.yaml."
    )


@guarded(None)
def record_nodes(line: str, nodes: list[str] | str | None = None) -> None:
    """Name the nodes that the line's child run shows; none named: every node that called an LLM."""
    names = node_names(nodes)
    if not line or not names:
        return
    known = flow_nodes(Path.cwd()).all
    if missing := [name for name in names if known and name not in known]:
        warn_once(f"record_nodes names {', '.join(missing)!r}, but the flow's nodes are {', '.join(known)}.")
    _processor.name_nodes(names)


@guarded("")
def child_run_id(line: str) -> str:
    """Return the id of the line's child run if MLflow has made it by now, else `""`.

    Waits up to 1 % of the line's time and 50 ms.
    """
    if not line:
        return ""
    batch_uid, _, number = line.rpartition(":")
    started = _processor.line_start()
    elapsed = time.time() - started if started else 0.0
    return _processor.source.run_id(batch_uid, int(number), min(_RUN_ID_WAIT, _RUN_ID_SHARE * elapsed))
