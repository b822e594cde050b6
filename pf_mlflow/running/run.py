"""Runs a batch: checks it, has promptflow execute it, and waits until MLflow has it."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pf_mlflow.delivery.prestart import PrestartedDelivery
from pf_mlflow.errors import BadInput, BatchFailed, TrackingRefused
from pf_mlflow.records.batch import Batch, command_on
from pf_mlflow.running.checks import check_data, check_mapping, check_outputs
from pf_mlflow.running.cut_off import end_record, ended_record
from pf_mlflow.running.main_guard import check_guarded
from pf_mlflow.running.model_choice import DEFAULT_CONNECTION, Connections, ModelChoice, choose_model, with_connections
from pf_mlflow.running.monitor import Monitor
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.request import PROCESSES, THREADS, RunRequest
from pf_mlflow.running.result import RunResult, result_of
from pf_mlflow.running.resume import check_unchanged
from pf_mlflow.running.turns import own_turn
from pf_mlflow.settings import Settings, read_settings, without_password
from pf_mlflow.settings.environment import changed_environment, credentials_kept_to
from pf_mlflow.sources.live import exit_notice
from pf_mlflow.sources.live.api import attach, use_settings
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.flow import Flow, flow_nodes, read_flow
from pf_mlflow.sources.promptflow.local_batch import known_batches, tracking_uri_of
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record
from pf_mlflow.sources.promptflow.store_access import access_to_store_of
from pf_mlflow.spool.store import Spool
from pf_mlflow.versions import check_versions

log = logging.getLogger(__name__)

__all__ = ["run_batch"]

_SUBMITTER = "promptflow._sdk._orchestrator.run_submitter"
_NO_TRACE_SERVICE = "PF_TRACING_SKIP_LOCAL_SETUP"


def run_batch(request: RunRequest, observer: Observer) -> RunResult:
    """Run a batch and wait until MLflow has it.

    Raises:
        BadInput: a file, column, connection or setting that cannot be used; nothing was run.
        TrackingRefused: MLflow said no for good; nothing was run.
    """
    with own_turn():
        return _run_in_turn(request, observer)


def _run_in_turn(request: RunRequest, observer: Observer) -> RunResult:
    started = time.monotonic()
    check_versions()
    if request.engine == PROCESSES:
        check_guarded()
    earlier = _resumed(request)
    flow = read_flow(Path(earlier.flow_path or "") if earlier else request.flow or Path())
    settings = Settings.for_flow(flow.definition, os.environ)
    _check_files(settings)
    unwritable = settings.enabled and settings.unwritable_folder
    _check(request, flow)
    request = _absolute(request)
    settings = _placed(settings, request, flow)
    with ExitStack() as stack:
        stack.enter_context(_access(settings, request, flow))
        stack.enter_context(changed_environment(_variables(settings, request, flow)))
        use_settings(settings)
        exit_notice.silence()
        delivery = None
        if settings.enabled:
            scored = _scored(settings, request, flow)
            place = settings.tracking_uri, settings.experiment, settings.spool_dir
            delivery = PrestartedDelivery(*place, scored.uid if scored else "")
            stack.callback(delivery.dismiss)
        client = _client(request.engine)
        dag = with_connections(flow.definition, _defaults(request)) if flow.is_dag else {}
        model = stack.enter_context(choose_model(client, dag, request.connections))
        if earlier and not request.resume_changed:
            check_unchanged(earlier, _connections(request, model))
        monitor = Monitor(observer, Spool(settings.spool_dir) if delivery else None, delivery)
        if request.engine != THREADS:  # whose lines wait for MLflow's answer, while promptflow makes ready
            monitor.wait_for_mlflow()
        observer.starting(model, without_password(settings.tracking_uri) if delivery else "")
        if unwritable and not request.run:
            observer.warn(f"{unwritable} cannot be written, so the runs go elsewhere; MLFLOW_TRACKING_URI says where.")
        if model.offline and request.offline_warning:
            observer.warn(request.offline_warning)
        observer.running(monitor.counts)
        run = _submitted(client, request, model, monitor, settings)
        seconds = time.monotonic() - started
        return result_of(run, model, settings, monitor, seconds, request.wait)


def _resumed(request: RunRequest) -> RunRecord | None:
    """Return the batch whose completed lines are taken over, `None` if there is none."""
    if request.resume_from is None:
        return None
    record = ended_record(request.resume_from, read_settings())
    if record.flow_path is None:
        raise BadInput(f"promptflow's record of {request.resume_from!r} names no flow to go on with.")
    return record


def _absolute(request: RunRequest) -> RunRequest:
    """Return a request whose paths hold whatever folder the process is in: promptflow changes it."""
    flow, data = request.flow if request.resume_from else (request.flow or Path()).absolute(), request.data
    return replace(request, flow=flow, data=data and data.absolute())


def _check_files(settings: Settings) -> None:
    """Raise `BadInput` if what keeps the batch, promptflow's database or the spool, is damaged or of a newer format."""
    run_record(promptflow_home(), "")
    if settings.enabled:
        with suppress(OSError, sqlite3.OperationalError):  # without a spool the batch comes from promptflow's folder
            Spool(settings.spool_dir).state("")


def _check(request: RunRequest, flow: Flow) -> None:
    if request.run:
        base = ended_record(request.run, read_settings())
        check_outputs(request.column_mapping, BatchFolder.of(base).outputs_file, request.run)
    if request.resume_from or (request.data is None and request.run):
        return
    assert request.data
    columns = check_data(request.data)
    if flow.inputs is not None:
        check_mapping(request.column_mapping, columns, {"inputs": flow.inputs}, request.data)


def _placed(settings: Settings, request: RunRequest, flow: Flow) -> Settings:
    """Return settings with the batch's store and experiment: if it scores the lines of another, they are that one's."""
    if base := _scored(settings, request, flow):
        place = {"tracking_uri": tracking_uri_of(base, settings), "experiment": base.experiment}
        if base.content == "none":  # what was kept out of its runs stays out of its scores
            place["content"] = base.content
    else:
        experiment = settings.experiment or flow.folder.name
        place = {"tracking_uri": settings.store_of(flow.folder), "experiment": experiment}
    return settings.model_copy(update=place)


def _access(settings: Settings, request: RunRequest, flow: Flow) -> AbstractContextManager[None]:
    """Return what holds back credentials that the environment has for another store than the batch's."""
    own = read_settings()
    if not settings.enabled:
        return nullcontext()
    if base := _scored(settings, request, flow):
        return access_to_store_of(base, own)
    return credentials_kept_to(settings.tracking_uri, own.tracking_uri or settings.tracking_uri)


def _scored(settings: Settings, request: RunRequest, flow: Flow) -> Batch | None:
    """Return the batch whose lines the flow scores, `None` if it scores none."""
    if request.run and flow.is_dag and flow_nodes(flow.folder).aggregates:
        return known_batches(Spool(settings.spool_dir), settings, request.run)[-1]
    return None


def _variables(settings: Settings, request: RunRequest, flow: Flow) -> dict[str, str]:
    """Return what promptflow, its workers and the delivery process read only from the environment."""
    variables = settings.variables() | {"PF_WORKER_COUNT": str(request.lines_at_once)}
    if request.line_timeout:
        variables["PF_LINE_TIMEOUT_SEC"] = str(request.line_timeout)
    if flow.is_dag and request.engine == THREADS:  # its own trace service would keep once more what MLflow gets
        variables[_NO_TRACE_SERVICE] = os.environ.get(_NO_TRACE_SERVICE, "true")
    return variables


def _client(engine: str) -> Any:
    """Return promptflow's client, silenced about telemetry that it cannot send and counts that it does not know."""
    for name in ("azure", "opentelemetry.attributes"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    from promptflow.client import PFClient

    if engine == THREADS:
        from pf_mlflow.running.engine import submit, thread_engine  # noqa: F401 - while MLflow is being asked

    logging.getLogger(_SUBMITTER).setLevel(logging.WARNING)
    return PFClient()


def _submitted(client: Any, request: RunRequest, model: ModelChoice, monitor: Monitor, settings: Settings) -> Any:
    from promptflow.exceptions import PromptflowException

    from pf_mlflow.running.engine.submit import submitted
    from pf_mlflow.running.engine.thread_engine import ThreadEngine

    try:
        with ExitStack() as stack:
            stack.enter_context(_nothing_left_if_refused(client, monitor))
            stack.enter_context(_logs_that_fail_unheard())
            if request.engine == THREADS:
                if settings.enabled:
                    attach()
                stack.enter_context(
                    ThreadEngine(request.lines_at_once, monitor, monitor.stop, request.limit).in_place()
                )
            connections = _connections(request, model)
            return submitted(client, monitor.stop, connections, **_arguments(request, connections, settings))
    except TrackingRefused:
        raise
    except Exception as error:
        log.debug("promptflow raised", exc_info=True)
        kind = "" if isinstance(error, PromptflowException) else f"{type(error).__name__}: "
        sentence = f"{kind}{' '.join(str(error).split())}"
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
    submitter = logging.getLogger(_SUBMITTER)
    submitter.addFilter(unheard := lambda record: monitor.refusal is None)
    try:
        yield
    except Exception as error:
        if monitor.refusal is None:
            raise
        client.runs.delete(monitor.run_id)
        raise monitor.refusal from error
    finally:
        submitter.removeFilter(unheard)


def _connections(request: RunRequest, model: ModelChoice) -> dict[str, dict[str, str]]:
    return _merged(_defaults(request), model.overrides, request.connections)


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
        "environment_variables": tracing or None,
        "init": dict(request.init) or None,
        **names,
    }


def _defaults(request: RunRequest) -> Connections:
    return {node: {name: DEFAULT_CONNECTION} for node, name in request.default_connection.items()}


def _merged(*connections: Connections) -> dict[str, dict[str, str]]:
    """Return connections by node, of which the later ones count."""
    merged: dict[str, dict[str, str]] = {}
    for one in connections:
        for node, inputs in one.items():
            merged[node] = {**merged.get(node, {}), **inputs}
    return merged
