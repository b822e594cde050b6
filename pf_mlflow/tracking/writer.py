"""Writes records into MLflow; the only module that calls its run-writing API. Imports mlflow, so no worker loads it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from sqlalchemy.engine import make_url

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import absolute_store, without_password
from pf_mlflow.tracking.bulk_rows import Rows
from pf_mlflow.tracking.errors import hear_retry_after, telling, told
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.links import is_database
from pf_mlflow.tracking.run_payload import (
    LINE,
    SINGLE,
    RunPayload,
    batches_of,
    child_name,
    child_tags,
    milliseconds,
    run_tags,
)
from pf_mlflow.tracking.transaction import one_transaction

__all__ = ["Projection"]

_PAGE = 1000
_PROOF = "pf_mlflow.doctor"


class Projection:
    """One store and experiment to write batches and lines to. Safe for threads."""

    def __init__(self, tracking_uri: str, experiment: str, lock_dir: Path) -> None:
        self.tracking_uri = absolute_store(tracking_uri, Path.cwd())
        self.shown_uri = without_password(self.tracking_uri)
        self.experiment = experiment
        self.experiment_id = ""
        self._lock_dir = lock_dir
        self._client: Any = None
        self._rows: Rows | None = None
        """While a transaction lasts: what is written into its database directly."""
        hear_retry_after()

    @property
    def threads(self) -> int:
        """How many writers pay: requests to a server overlap, a database gets many lines in one transaction."""
        return 1 if is_database(self.tracking_uri) else 8

    @property
    def lines_together(self) -> int:
        """How many lines one transaction may write: a file is locked meanwhile, for a quarter of a second."""
        return 25 if is_database(self.tracking_uri) else 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write in one transaction what the block writes; for databases."""
        with telling(self.shown_uri), one_transaction(self._client._tracking_client.store) as connection:
            rows = Rows(connection, self.experiment_id)
            self._rows = rows if rows.can_be_written else None
            try:
                yield
                if self._rows:
                    self._rows.write()
            finally:
                self._rows = None

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
    def prove_writable(self) -> None:
        """Write to the experiment and take it back: that a server lets us is seen in no other way."""
        if not hasattr(self._client, "delete_experiment_tag"):  # mlflow 3.1
            raise TrackingRefused(f"This mlflow could not take back what it writes to {self.shown_uri}.")
        self._client.set_experiment_tag(self.experiment_id, _PROOF, "1")
        self._client.delete_experiment_tag(self.experiment_id, _PROOF)

    def runs(self, batch_uid: str, which: str = "") -> Iterator[KnownRun]:
        """Yield the batch's parent and child runs as MLflow shows them; `which`: more of a filter, with its `AND`."""
        token: str | None = "" if self.experiment_id else None
        while token is not None:
            page = self._page(f"tags.`promptflow.batch_uid` = '{batch_uid}'{which}", token)
            yield from map(_known, page)
            token = page.token or None

    @told
    def find_child(self, batch: Batch, line_number: int) -> str | None:
        """Return the id of a line's run, `None` if MLflow has none."""
        tag = SINGLE if batch.single else LINE
        where = f"tags.`promptflow.batch_uid` = '{batch.uid}' AND tags.`{tag}` = '{line_number}'"
        found = self._client.search_runs([self.experiment_id], where, ViewType.ACTIVE_ONLY, 1)
        return str(found[0].info.run_id) if found else None

    @told
    def deleted_parent(self, batch_uid: str) -> str | None:
        """Return the id of a parent run of the batch that somebody deleted in MLflow, `None` if there is none."""
        if not self.experiment_id:
            return None
        first = self._page(f"tags.`promptflow.batch_uid` = '{batch_uid}'", "", ViewType.DELETED_ONLY, 10)
        return next((run.info.run_id for run in first if LINE not in run.data.tags), None)

    @told
    def _page(self, where: str, token: str, view: Any = ViewType.ACTIVE_ONLY, most: int = _PAGE) -> Any:
        """Return runs, the earliest first: a batch starts before its lines."""
        order = ["attributes.start_time ASC"]
        return self._client.search_runs([self.experiment_id], where, view, most, order, token or None)

    @told
    def delete(self, run_id: str) -> None:
        """Take a run away that shows what another one shows; MLflow can restore it."""
        self._client.delete_run(run_id)

    @told
    def adopt_children(self, batch_uid: str, parent_run_id: str) -> None:
        """Put the children of the batch that are below other parents below this one."""
        where = f"tags.`promptflow.batch_uid` = '{batch_uid}' AND tags.`mlflow.parentRunId` != '{parent_run_id}'"
        while page := self._page(where, ""):
            for run in page:
                self._client.set_tag(run.info.run_id, "mlflow.parentRunId", parent_run_id)

    @told
    def drop_tags(self, run_id: str, keys: Iterable[str]) -> None:
        """Take tags back that are not true any more."""
        for key in keys:
            try:
                self._client.delete_tag(run_id, key)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it went when no answer came
                    raise

    @told
    def create_parent(self, batch: Batch, display_name: str, start: float) -> str:
        """Create the run of a batch and return its id; `start` in Unix seconds."""
        return self._create(start, run_tags(batch, batch.name), display_name)

    @told
    def create_child(self, batch: Batch, line_number: int, parent_run_id: str, start: float) -> str:
        """Create the run of a line as RUNNING and return its id; `start` in Unix seconds."""
        return self._create(start, child_tags(batch, line_number, parent_run_id), child_name(line_number))

    @told
    def create_single(self, batch: Batch, line_number: int, start: float) -> str:
        """Create the top-level run of a single execution and return its id; `start` in Unix seconds."""
        return self._create(start, child_tags(batch, line_number, None), batch.flow_name)

    def _create(self, start: float, tags: dict[str, str], name: str) -> str:
        if self._rows:
            return self._rows.create(milliseconds(start), tags, name)
        run = self._client.create_run(self.experiment_id, milliseconds(start), tags, name)
        return str(run.info.run_id)

    @told
    def complete(self, run_id: str, payload: RunPayload) -> None:
        """Log a run's values and end it: two requests if the values fit into one."""
        self.log(run_id, payload)
        self.end(run_id, payload.status, payload.end_ms)

    @told
    def log(self, run_id: str, payload: RunPayload) -> None:
        """Log params, tags and metrics of a run, all in one request where MLflow takes them so; long texts before."""
        if self._rows and payload.texts:  # MLflow looks where the run keeps its artifacts
            self._rows.write()
        for path, text in payload.texts.items():
            self._client.log_text(run_id, text, path)
        at = payload.end_ms or milliseconds(time.time())
        metrics = [Metric(key, value, at, 0) for key, value in payload.metrics.items()]
        nothing: dict[str, str] = {}
        parts = zip_longest(batches_of(payload.params), batches_of(payload.tags), fillvalue=nothing)
        for some_params, some_tags in [*parts] or [(nothing, nothing)]:
            params = [Param(key, value) for key, value in some_params.items()]
            tags = [RunTag(key, value) for key, value in some_tags.items()]
            if params or metrics or tags:
                self._writer_of(run_id).log_batch(run_id, metrics, params, tags)
            metrics = []

    @told
    def log_table(self, run_id: str, path: Path) -> None:
        """Log a file as an artifact that MLflow shows as a table, and `mlflow.load_table` reads."""
        self._client.log_artifact(run_id, str(path))
        tables = json.loads(self._client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        if not any(table["path"] == path.name for table in tables):
            told = json.dumps([*tables, {"path": path.name, "type": "table"}])
            self._client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, told)

    @told
    def end(self, run_id: str, status: str, end_ms: int) -> None:
        """Set a run's status and end in one request; the client's own `set_terminated` takes two."""
        from mlflow.entities import RunStatus

        self._writer_of(run_id).update_run_info(run_id, RunStatus.from_string(status), end_ms, None)

    def _writer_of(self, run_id: str) -> Any:
        """Return what takes a run's values: rows, or MLflow's store, which also says what is wrong with the run."""
        return self._rows if self._rows and self._rows.takes(run_id) else self._client._tracking_client.store


def _known(run: Any) -> KnownRun:
    data, info = run.data, run.info
    number = data.tags.get(LINE) or data.tags.get(SINGLE)
    values = RunPayload(info.status, info.start_time, info.end_time or 0, data.params, data.metrics, data.tags)
    return KnownRun(info.run_id, int(number) if number else None, data.tags.get("mlflow.parentRunId"), values)
