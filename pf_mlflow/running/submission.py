"""Has promptflow execute a batch, and returns its run whatever promptflow raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput, BatchFailed, TrackingRefused
from pf_mlflow.records.batch import command_on
from pf_mlflow.running.cut_off import end_record
from pf_mlflow.running.model_choice import DEFAULT_CONNECTION, Connections, ModelChoice
from pf_mlflow.running.monitor import Monitor
from pf_mlflow.running.plainly import plainly
from pf_mlflow.running.request import THREADS, RunRequest
from pf_mlflow.settings import Settings
from pf_mlflow.sources.live.api import attach
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import run_record

log = logging.getLogger(__name__)

__all__ = ["connections_of", "default_connections", "new_client", "submit_batch"]

_SUBMITTER = "promptflow._sdk._orchestrator.run_submitter"


def new_client(engine: str) -> Any:
    """Return promptflow's client, silenced about telemetry that it cannot send and counts that it does not know."""
    for name in ("azure", "opentelemetry.attributes"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    from promptflow.client import PFClient

    if engine == THREADS:
        from pf_mlflow.running.engine import submit, thread_engine  # noqa: F401 - while MLflow is being asked

    logging.getLogger(_SUBMITTER).setLevel(logging.ERROR)  # what it warns of, the result says
    return PFClient()


def submit_batch(client: Any, request: RunRequest, model: ModelChoice, monitor: Monitor, settings: Settings) -> Any:
    """Return promptflow's run of a batch that is over, however it ended.

    Raises:
        BadInput: promptflow refused it before its first line.
        BatchFailed: promptflow failed before that by a fault of its own, or can write nothing.
        TrackingRefused: MLflow said no for good; nothing was run.
    """
    from promptflow.exceptions import PromptflowException

    from pf_mlflow.running.engine.process_engine import ProcessEngine
    from pf_mlflow.running.engine.submit import submitted
    from pf_mlflow.running.engine.thread_engine import ThreadEngine

    engine: ThreadEngine | ProcessEngine = ProcessEngine(monitor, monitor.stop)
    if request.engine == THREADS:
        engine = ThreadEngine(request.lines_at_once, monitor, monitor.stop, request.limit)
    try:
        with ExitStack() as stack:
            stack.enter_context(_nothing_left_if_refused(client, monitor))
            stack.enter_context(_logs_that_fail_unheard())
            if request.engine == THREADS and settings.enabled:
                attach()
            stack.enter_context(engine.in_place())
            connections = connections_of(request, model)
            return submitted(client, monitor.stop, connections, **_arguments(request, connections, settings))
    except (TrackingRefused, BadInput):
        raise
    except Exception as error:
        log.debug("promptflow raised", exc_info=True)
        kind = "" if isinstance(error, PromptflowException) else f"{type(error).__name__}: "
        sentence = f"{kind}{plainly(' '.join(str(error).split()))}"
        if monitor.run_id:
            monitor.failure = f"promptflow could not finish the batch: {sentence}"
            return _failed(client, monitor)
        raise (
            BatchFailed(f"promptflow could not run the batch: {sentence}") if kind else BadInput(sentence)
        ) from error


def _failed(client: Any, monitor: Monitor) -> Any:
    """Return promptflow's run of a batch whose lines are over, also where promptflow did not come to end it.

    Raises:
        BatchFailed: promptflow cannot even write that down.
    """
    try:
        if (record := run_record(promptflow_home(), monitor.run_id)) and not record.is_over:
            end_record(record, "Failed")
        return client.runs.get(monitor.run_id)
    except Exception as error:
        log.debug("promptflow's record cannot be ended", exc_info=True)
        raise BatchFailed(
            f"{monitor.failure} Its folder {promptflow_home()} takes nothing more: free its disk, then "
            f"`{command_on('sync', monitor.run_id)}` brings in what is missing."
        ) from error


@contextmanager
def _logs_that_fail_unheard() -> Iterator[None]:
    """Print no traceback for each line of a log that a full disk does not take: the batch's own error says so."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before


@contextmanager
def _nothing_left_if_refused(client: Any, monitor: Monitor) -> Iterator[None]:
    """Take promptflow's record back of a batch that MLflow refused: no line was executed, and its name is free."""
    try:
        yield
    except Exception as error:
        if monitor.refusal is None:
            raise
        client.runs.delete(monitor.run_id)
        raise monitor.refusal from error


def connections_of(request: RunRequest, model: ModelChoice) -> dict[str, dict[str, str]]:
    """Return what a batch's nodes are told in place of their flow's connections, by node."""
    return _merged(default_connections(request), model.overrides, request.connections)


def _arguments(request: RunRequest, connections: Connections, settings: Settings) -> dict[str, Any]:
    names = {"name": request.name, "display_name": request.display_name, "tags": dict(request.tags) or None}
    if request.resume_from:
        return {"resume_from": request.resume_from, **names}
    tracing = {"PF_DISABLE_TRACING": "false"} if settings.enabled else {}
    return {
        "flow": str(request.flow or Path()),
        "data": str(request.data) if request.data else None,
        "run": request.run,
        "column_mapping": dict(request.column_mapping) or None,
        "variant": request.variant,
        "connections": connections or None,
        "environment_variables": {**request.environment_variables, **tracing} or None,
        "init": dict(request.init) or None,
        **names,
    }


def default_connections(request: RunRequest) -> Connections:
    """Return the connections that a flow gets whose nodes name none."""
    return {node: {name: DEFAULT_CONNECTION} for node, name in request.default_connection.items()}


def _merged(*connections: Connections) -> dict[str, dict[str, str]]:
    """Return connections by node, of which the later ones count."""
    merged: dict[str, dict[str, str]] = {}
    for one in connections:
        for node, inputs in one.items():
            merged[node] = {**merged.get(node, {}), **inputs}
    return merged
