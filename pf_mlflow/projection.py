"""Writes records into MLflow; the only module that calls its run-writing API. Imports mlflow, so no worker loads it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.mlflow_errors import told
from pf_mlflow.payload import RunPayload, batches_of, child_name, child_tags, milliseconds, run_tags
from pf_mlflow.records import Batch
from pf_mlflow.settings import absolute_store, without_password

__all__ = ["Projection"]

_PAGE = 1000


class Projection:
    """One store and experiment to write batches and lines to. Safe for threads."""

    def __init__(self, tracking_uri: str, experiment: str, lock_dir: Path) -> None:
        self.tracking_uri = absolute_store(tracking_uri, Path.cwd())
        self.shown_uri = without_password(self.tracking_uri)
        self.experiment = experiment
        self.experiment_id = ""
        self._lock_dir = lock_dir
        self._client: Any = None

    @property
    def threads(self) -> int:
        """How many writers pay: requests to a server overlap, an SQLite file has one writer at a time."""
        return 8 if self.tracking_uri.startswith(("http", "databricks", "azureml")) else 1

    @told
    def connect(self) -> None:
        """Open the store, making it where it is a database that does not exist yet, and find or make the experiment.

        Raises:
            TrackingRefused: wrong credentials, no rights, or an experiment that was deleted.
            TrackingDown: the store cannot be reached.
        """
        self._enter_folder()
        with self._one_at_a_time():
            self._client = MlflowClient(self.tracking_uri)
            found = self._client.get_experiment_by_name(self.experiment)
            self.experiment_id = found.experiment_id if found else self._create_experiment()
        if found and found.lifecycle_stage == "deleted":
            raise TrackingRefused(
                f"The experiment {self.experiment!r} at {self.shown_uri} is deleted — restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME."
            )

    def _enter_folder(self) -> None:
        """Go where an SQLite store is, since MLflow puts its artifacts into `./mlruns`, and see that it opens."""
        if not self.tracking_uri.startswith("sqlite:///"):
            return
        path = Path(make_url(self.tracking_uri).database or "")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise TrackingRefused(
                f"{self.shown_uri} cannot be written: {str(path.parent)!r} is not a folder that you may write to — "
                "start in another folder, or set MLFLOW_TRACKING_URI."
            )
        os.chdir(path.parent)
        try:
            with closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            if "locked" not in str(error):
                raise TrackingRefused(f"MLflow cannot use {self.shown_uri}: {error}.") from error

    def _one_at_a_time(self) -> Any:
        """Let one process at a time make or migrate a database: two that do collide over its tables."""
        if self.tracking_uri.startswith("http"):
            return nullcontext()
        digest = hashlib.sha256(self.tracking_uri.encode()).hexdigest()[:16]
        return FileLock(self._lock_dir / f"store-{digest}.lock", timeout=120)

    def _create_experiment(self) -> str:
        try:
            return str(self._client.create_experiment(self.experiment))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(self.experiment).experiment_id)

    @told
    def find_runs(self, batch_uid: str) -> tuple[str | None, dict[int, str]]:
        """Return the batch's parent run and its child runs by line number, as MLflow knows them."""
        parent, children, token = None, {}, None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                f"tags.`promptflow.batch_uid` = '{batch_uid}'",
                ViewType.ACTIVE_ONLY,
                _PAGE,
                ["attributes.start_time DESC"],
                token,
            )
            for run in page:
                if "promptflow.line_number" in run.data.tags:
                    children[int(run.data.tags["promptflow.line_number"])] = run.info.run_id
                else:
                    parent = run.info.run_id
            token = page.token
            if not token:
                return parent, children

    @told
    def find_child(self, batch_uid: str, line_number: int) -> str | None:
        """Return a line's child run, `None` if MLflow has none."""
        where = f"tags.`promptflow.batch_uid` = '{batch_uid}' AND tags.`promptflow.line_number` = '{line_number}'"
        found = self._client.search_runs([self.experiment_id], where, ViewType.ACTIVE_ONLY, 1)
        return str(found[0].info.run_id) if found else None

    @told
    def create_parent(self, batch: Batch, display_name: str, start: float) -> str:
        """Create the run of a batch and return its id; `start` in Unix seconds."""
        return self._create(start, run_tags(batch, batch.name), display_name)

    @told
    def create_child(self, batch: Batch, line_number: int, parent_run_id: str, start: float) -> str:
        """Create the run of a line as RUNNING and return its id; `start` in Unix seconds."""
        return self._create(start, child_tags(batch, line_number, parent_run_id), child_name(line_number))

    @told
    def create_single(self, batch: Batch, run_name: str, start: float) -> str:
        """Create the top-level run of a single execution and return its id; `start` in Unix seconds."""
        return self._create(start, run_tags(batch, run_name), batch.flow_name)

    def _create(self, start: float, tags: dict[str, str], name: str) -> str:
        run = self._client.create_run(self.experiment_id, milliseconds(start), tags, name)
        return str(run.info.run_id)

    @told
    def complete(self, run_id: str, payload: RunPayload) -> None:
        """Log a run's values and end it: two requests if the values fit into one."""
        for path, text in payload.texts.items():
            self._client.log_text(run_id, text, path)
        self.log(run_id, payload)
        self.end(run_id, payload.status, payload.end_ms)

    @told
    def log(self, run_id: str, payload: RunPayload) -> None:
        """Log params, tags and metrics of a run, all in one request where MLflow takes them so."""
        at = payload.end_ms or milliseconds(time.time())
        metrics = [Metric(key, value, at, 0) for key, value in payload.metrics.items()]
        tags = [RunTag(key, value) for key, value in payload.tags.items()]
        store = self._client._tracking_client.store
        for part in [*batches_of(payload.params)] or [{}]:
            params = [Param(key, value) for key, value in part.items()]
            if params or metrics or tags:
                store.log_batch(run_id, metrics, params, tags)
            metrics, tags = [], []

    @told
    def end(self, run_id: str, status: str, end_ms: int) -> None:
        """Set a run's status and end in one request; the client's own `set_terminated` takes two."""
        from mlflow.entities import RunStatus

        store = self._client._tracking_client.store
        store.update_run_info(run_id, RunStatus.from_string(status), end_ms, None)
