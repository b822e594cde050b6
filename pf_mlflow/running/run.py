"""Runs a batch: checks it, has promptflow execute it, and waits until MLflow has it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from pf_mlflow.delivery.prestart import PrestartedDelivery
from pf_mlflow.errors import BadInput
from pf_mlflow.records.batch import Batch, command_on
from pf_mlflow.running.checks import check_mapping, check_outputs, check_sources
from pf_mlflow.running.cut_off import ended_record
from pf_mlflow.running.flow_check import check_flow
from pf_mlflow.running.main_guard import check_guarded
from pf_mlflow.running.mapping import columns_of, mapped_by_name, sources_of, tell_mapping
from pf_mlflow.running.model_check import model_check
from pf_mlflow.running.model_choice import choose_model, with_connections
from pf_mlflow.running.monitor import Monitor
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.request import PROCESSES, THREADS, RunRequest
from pf_mlflow.running.result import RunResult, result_of
from pf_mlflow.running.resume import check_unchanged
from pf_mlflow.running.submission import connections_of, default_connections, new_client, submit_batch
from pf_mlflow.running.turns import own_turn
from pf_mlflow.settings import Settings, read_settings, without_password
from pf_mlflow.settings.environment import (
    changed_environment,
    credentials_kept_to,
    loopback_unproxied,
    network_variables,
)
from pf_mlflow.sources.live import exit_notice
from pf_mlflow.sources.live.api import use_settings
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.flow import DAG, Flow, evaluates, read_flow
from pf_mlflow.sources.promptflow.local_batch import known_batches, tracking_uri_of
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record
from pf_mlflow.sources.promptflow.store_access import access_to_store_of
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.prices import read_prices
from pf_mlflow.versions import check_versions

__all__ = ["run_batch"]

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
    settings = Settings.for_flow(flow.definition, {**request.fallbacks, **os.environ, **_own_variables(request)})
    _check_files(settings)
    unwritable = settings.enabled and settings.unwritable_folder
    found = _check(request, flow)
    given, request = request.column_mapping, _absolute(request, found)
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
        client = new_client(request.engine)
        dag = with_connections(flow.definition, default_connections(request)) if flow.is_dag else {}
        model = stack.enter_context(choose_model(client, dag, request.connections))
        if earlier and not request.resume_changed:
            check_unchanged(earlier, connections_of(request, model))
        monitor = Monitor(observer, Spool(settings.spool_dir) if delivery else None, delivery)
        monitor.check_models = model_check(client, dag, connections_of(request, model), request.variant)
        if request.engine != THREADS:  # whose lines wait for MLflow's answer, while promptflow makes ready
            monitor.wait_for_mlflow()
            monitor.wait_for_models()
        observer.starting(model, without_password(settings.tracking_uri) if delivery else "")
        if unwritable and not request.run:
            observer.warn(f"{unwritable} cannot be written, so the runs go elsewhere; MLFLOW_TRACKING_URI says where.")
        if model.offline and request.offline_warning:
            observer.warn(request.offline_warning)
        if flow.inputs and request.by_name and not request.resume_from:
            tell_mapping(observer, flow.inputs, given, found)
        observer.running(monitor.counts)
        with changed_environment({}):  # by its lines
            run = submit_batch(client, request, model, monitor, settings)
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


def _absolute(request: RunRequest, found: Mapping[str, str]) -> RunRequest:
    """Return a request with what was mapped by name, whose paths hold in every folder: promptflow changes it."""
    flow, data = request.flow if request.resume_from else (request.flow or Path()).absolute(), request.data
    mapping = {**request.column_mapping, **found}
    return replace(request, flow=flow, data=data and data.absolute(), column_mapping=mapping)


def _check_files(settings: Settings) -> None:
    """Raise `BadInput` if what keeps the batch, promptflow's database or the spool, or own prices cannot be read."""
    run_record(promptflow_home(), "")
    if settings.enabled:
        if settings.prices:
            read_prices(Path(settings.prices))
        with suppress(OSError, sqlite3.OperationalError):  # without a spool the batch comes from promptflow's folder
            Spool(settings.spool_dir).state("")


def _check(request: RunRequest, flow: Flow) -> dict[str, str]:
    """Return what inputs that are not mapped take by their names; raise `BadInput` for what cannot be used."""
    if request.name and run_record(promptflow_home(), request.name):
        raise BadInput(
            f"There is a batch {request.name!r} already; `{command_on('show', request.name)}` looks at it. Take "
            "another name."
        )
    if request.resume_from:
        return {}
    check_sources(request.column_mapping, bool(request.data), bool(request.run))
    if flow.is_dag:
        check_flow(flow.definition, flow.folder / DAG, request.variant, request.connections)
    columns = columns_of(request.data) if request.data else None
    base = ended_record(request.run, read_settings()) if request.run else None
    outputs = BatchFolder.of(base).outputs_file if base else None
    if base and outputs:
        check_outputs(request.column_mapping, outputs, base.name)
    if flow.inputs is None:
        return {}
    sources = sources_of(columns, outputs, base.data if base else None)
    found = mapped_by_name(flow.inputs, request.column_mapping, sources, request.data) if request.by_name else {}
    if request.data:
        check_mapping({**request.column_mapping, **found}, columns, {"inputs": flow.inputs}, request.data)
    return found


def _placed(settings: Settings, request: RunRequest, flow: Flow) -> Settings:
    """Return settings with the batch's store and experiment: if it scores the lines of another, they are that one's."""
    if base := _scored(settings, request, flow):
        place = {"tracking_uri": tracking_uri_of(base, settings), "experiment": base.experiment}
        place["parent_run"] = ""
        if base.content == "none":  # what was kept out of its runs stays out of its scores
            place["content"] = base.content
    else:
        experiment = settings.experiment or flow.folder.name
        place = {"tracking_uri": settings.store_of(flow.folder), "experiment": experiment}
        if request.parent_run is not None:
            place["parent_run"] = request.parent_run
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
    if request.run and flow.is_dag and evaluates(flow.folder):
        return known_batches(Spool(settings.spool_dir), settings, request.run)[-1]
    return None


def _own_variables(request: RunRequest) -> dict[str, str]:
    """Return the variables that the request gives by their values: promptflow resolves those of connections."""
    return {name: str(value) for name, value in request.environment_variables.items() if "${" not in str(value)}


def _variables(settings: Settings, request: RunRequest, flow: Flow) -> dict[str, str]:
    """Return what promptflow, its workers and the delivery process read only from the environment."""
    of_flow = flow.definition.get("environment_variables") or {}
    own = network_variables(of_flow) | _own_variables(request)  # by which its models are asked for already
    variables = (
        own
        | loopback_unproxied({**os.environ, **own})
        | settings.variables()
        | {"PF_WORKER_COUNT": str(request.lines_at_once)}
    )
    if request.line_timeout:
        variables["PF_LINE_TIMEOUT_SEC"] = str(request.line_timeout)
    if flow.is_dag and request.engine == THREADS:  # its own trace service would keep once more what MLflow gets
        variables[_NO_TRACE_SERVICE] = os.environ.get(_NO_TRACE_SERVICE, "true")
    return variables
