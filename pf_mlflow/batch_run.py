"""Runs a batch by promptflow's own engine, checked beforehand and told of afterwards."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pf_mlflow import told
from pf_mlflow.errors import BadInput, BatchFailed
from pf_mlflow.links import run_link
from pf_mlflow.llm import Connections, Llm, chosen_llm
from pf_mlflow.preflight import TrackingCheck, check_data, check_mapping, check_versions, read_flow
from pf_mlflow.promptflow_private import promptflow_home
from pf_mlflow.records import Batch
from pf_mlflow.run_record import batch_uid, run_record
from pf_mlflow.settings import (
    Settings,
    default_tracking_uri,
    read_settings,
    take_over_environment,
    without_password,
)
from pf_mlflow.spool import Spool
from pf_mlflow.summary import BatchSummary

log = logging.getLogger(__name__)

__all__ = ["Outcome", "RunRequest", "Watcher", "run_batch"]


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for."""

    flow: Path
    data: Path
    column_mapping: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    display_name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None
    connections: Connections = field(default_factory=dict)
    workers: int = 4


@dataclass(frozen=True)
class Outcome:
    """What became of a batch."""

    name: str
    status: str
    llm: Llm
    batch: Batch | None
    """`None` if no line of it was tracked."""
    parent_run_id: str | None
    link: str | None
    """Address of the parent run's page; `None` while no server shows it."""
    summary: BatchSummary | None
    """`None` while MLflow does not have all its lines."""
    trouble: str | None
    lines_failed: int


class Watcher:
    """Is told what goes on; says nothing by itself."""

    def starting(self, llm: Llm, tracking_uri: str) -> None:
        """The batch is about to start."""

    def warn(self, sentence: str) -> None:
        """Something is wrong that does not stop the batch."""


def run_batch(request: RunRequest, watcher: Watcher) -> Outcome:
    """Run a batch and wait until MLflow has it.

    Raises:
        BadInput: a file, column, connection or setting that cannot be used; nothing was run.
        TrackingRefused: MLflow said no for good; nothing was run.
    """
    check_versions()
    dag = read_flow(request.flow)
    take_over_environment(dag)
    settings = read_settings()
    check_mapping(request.column_mapping, check_data(request.data), dag, request.data)
    tracking = _track_here(settings, request.flow)
    from promptflow.client import PFClient

    logging.getLogger("azure").addHandler(logging.NullHandler())  # promptflow's telemetry complains when offline
    logging.getLogger("azure").propagate = False
    client = PFClient()
    with chosen_llm(client, dag, request.connections) as llm:
        if tracking and (warning := tracking.warning()):
            watcher.warn(f"{warning} The batch runs all the same; its records wait in the spool.")
        watcher.starting(llm, without_password(tracking.tracking_uri) if tracking else "")
        run = _submit(client, request, llm)
        return _outcome(run, llm, settings)


def _track_here(settings: Settings, flow: Path) -> TrackingCheck | None:
    """Fix the store for this process and its children, and begin to ask it."""
    told.silence()
    if not settings.enabled:
        return None
    flow_dir = flow.resolve() if flow.is_dir() else flow.resolve().parent
    uri = settings.tracking_uri or default_tracking_uri(flow_dir)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.environ["PF_MLFLOW_SPOOL_DIR"] = str(settings.spool_dir)
    return TrackingCheck(uri, settings.experiment or flow_dir.name, settings.spool_dir)


def _submit(client: Any, request: RunRequest, llm: Llm) -> Any:
    from promptflow.exceptions import PromptflowException

    os.environ["PF_WORKER_COUNT"] = str(request.workers)
    try:
        return client.run(
            flow=str(request.flow),
            data=str(request.data),
            column_mapping=dict(request.column_mapping) or None,
            name=request.name,
            display_name=request.display_name,
            tags=dict(request.tags) or None,
            variant=request.variant,
            connections=_merged(llm.overrides, request.connections) or None,
        )
    except PromptflowException as error:
        raise BadInput(" ".join(str(error).split())) from error
    except Exception as error:
        log.debug("promptflow raised", exc_info=True)
        raise BatchFailed(f"promptflow could not finish the batch: {type(error).__name__}: {error}") from error


def _merged(ours: Connections, theirs: Connections) -> dict[str, dict[str, str]]:
    return {node: {**ours.get(node, {}), **theirs.get(node, {})} for node in {**ours, **theirs}}


def _outcome(run: Any, llm: Llm, settings: Settings) -> Outcome:
    home = promptflow_home()
    record = run_record(home, run.name)
    spool = Spool(settings.spool_dir)
    uid = batch_uid(home, run.name, record.created_on) if record else ""
    state = _await_delivery(spool, uid) if settings.enabled else None
    return Outcome(
        run.name,
        run.status,
        llm,
        Batch.from_json(state["info"]) if state else None,
        state["parent_run_id"] if state else None,
        _link(state) if state else None,
        BatchSummary.from_json(state["summary"]) if state and state["summary"] else None,
        state["told"] if state else None,
        record.lines_failed if record else 0,
    )


def _link(state: sqlite3.Row) -> str | None:
    return run_link(Batch.from_json(state["info"]).tracking_uri, state["experiment_id"], state["parent_run_id"])


def _await_delivery(spool: Spool, uid: str, patience: float = 60.0) -> Any:
    """Wait while lines go to MLflow; stop waiting when none has gone for a minute or trouble is told."""
    waiting, until = -1, time.monotonic() + patience
    while (state := spool.state(uid)) and not state["closed"] and not state["told"]:
        left = spool.waiting(uid)
        if left != waiting:
            waiting, until = left, time.monotonic() + patience
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return state
