"""Writes runs into an MLflow store: the only module that does."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

from mlflow.entities import ExperimentTag, LoggedModelOutput, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from pf_mlflow.errors import ArtifactsFailed, RequestRejected, TrackingDown, TrackingRefused
from pf_mlflow.records.batch import Batch
from pf_mlflow.tracking.artifacts import Artifacts
from pf_mlflow.tracking.connection import open_store
from pf_mlflow.tracking.errors import translated_errors, translates_errors
from pf_mlflow.tracking.known_run import LINE, PARENT, child_name, child_tags, parent_tags
from pf_mlflow.tracking.links import is_database
from pf_mlflow.tracking.logged_model import model_of_flow
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.run_payload import RunPayload, milliseconds, requests_of
from pf_mlflow.tracking.transaction import one_transaction
from pf_mlflow.tracking.views import Wanted, describe, keep_views

__all__ = ["StoreWriter"]

_PROOF = "pf_mlflow.doctor"
_TRIES = 4
"""How often a file is offered that might be taken the next time."""
_PAUSE = wait_exponential(0.25, max=2)

W = TypeVar("W", bound="StoreWriter")
P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ArtifactsFailed) and error.may_pass


def _writes(method: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[W, P], T]:
    """Decorate a method that changes the store: a dry run skips it, and it raises nothing but `TrackingError`s."""
    guarded = translates_errors(method)

    @wraps(method)
    def unless_dry_run(writer: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, "") if writer.dry_run else guarded(writer, *args, **kwargs)

    return unless_dry_run


class StoreWriter(StoreReader):
    """One experiment of a store to write batches and lines to, both made where they are missing. Safe for threads.

    In a dry run all that would be written is dropped; ids of runs that would be made are empty.
    """

    def __init__(
        self, tracking_uri: str, experiment: str, lock_dir: Path, dry_run: bool = False, run_id: str | None = None
    ) -> None:
        super().__init__(tracking_uri, experiment, lock_dir, run_id)
        self.dry_run = dry_run
        self.lost: dict[str, str] = {}
        """Why files of runs could not be kept, by run, that of a table by its path below it."""
        self._keeps_none = threading.Event()
        self._model_id = ""
        """The logged model that runs of lines are outputs of."""

    @property
    def is_database(self) -> bool:
        """Whether no server stands before it."""
        return is_database(self.tracking_uri)

    @property
    def threads(self) -> int:
        """How many writers pay: requests to a server overlap, a database gets many lines in one transaction."""
        return 1 if self.is_database else 8

    @property
    def lines_per_transaction(self) -> int:
        """How many lines one transaction may write: a file is locked meanwhile, for a quarter of a second.

        1 where there are none, on servers.
        """
        return 25 if self.is_database else 1

    @translates_errors
    def open(self) -> None:
        """Open the store as a reader does, but make it where it is a database that does not exist yet."""
        self._store = open_store(self.tracking_uri, self._lock_dir, makes=not self.dry_run)

    def open_experiment(self) -> None:
        """Find the experiment as a reader does, and make it where there is none."""
        super().open_experiment()
        if not self.experiment_id:
            self.experiment_id = self._create_experiment()

    @_writes
    def _create_experiment(self) -> str:
        try:
            return str(self._store.create_experiment(self.experiment, None, []))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._store.get_experiment_by_name(self.experiment).experiment_id)

    @_writes
    def check_writable(self) -> None:
        """Write to the experiment and take it back: that a server lets us is seen in no other way."""
        if not hasattr(self._store, "delete_experiment_tag"):  # mlflow 3.1
            raise TrackingRefused(f"This mlflow could not take back what it writes to {self.shown_uri}.")
        self._store.set_experiment_tag(self.experiment_id, ExperimentTag(_PROOF, "1"))
        self._store.delete_experiment_tag(self.experiment_id, _PROOF)

    @contextmanager
    def transaction(self: W) -> Iterator[W]:
        """Yield a writer of whose writes all hold when the block is left, or none if an error leaves it.

        What is refused within it undoes itself alone. For one thread; on a server each write holds by itself.
        """
        if self.dry_run or not self.is_database:
            yield self
            return
        with translated_errors(self.shown_uri), one_transaction(self._store, self.experiment_id) as store:
            inside = copy(self)
            inside._store = store
            yield inside

    @_writes
    def create_parent(self, batch: Batch, display_name: str, start: float) -> str:
        """Create the run of a batch and return its id; `start` in Unix seconds."""
        return self._create(start, parent_tags(batch), display_name)

    @_writes
    def create_child(self, batch: Batch, line_number: int, parent_run_id: str, start: float) -> str:
        """Create the run of a line as RUNNING and return its id; `start` in Unix seconds."""
        run_id = self._create(start, child_tags(batch, line_number, parent_run_id), child_name(line_number))
        if self._model_id:
            self._add_output(run_id)
        return run_id

    def use_model(self, flow_name: str) -> None:
        """Make the runs of lines outputs of a model that stands for their flow, where the store has such models."""
        try:
            self._model_id = self._model_of(flow_name)
        except (NotImplementedError, RequestRejected, TrackingRefused) as error:
            log.warning("lines are no outputs of a model: %s", error)

    @_writes
    def _model_of(self, flow_name: str) -> str:
        return model_of_flow(self._store, self.experiment_id, flow_name)

    def _add_output(self, run_id: str) -> None:
        try:
            self._log_output(run_id)
        except (RequestRejected, TrackingRefused) as error:
            self._model_id = ""
            log.warning("lines are no outputs of a model any more: %s", error)

    @_writes
    def _log_output(self, run_id: str) -> None:
        self._store.log_outputs(run_id, [LoggedModelOutput(self._model_id, 0)])

    @_writes
    def create_single(self, batch: Batch, line_number: int, start: float) -> str:
        """Create the top-level run of a single execution and return its id; `start` in Unix seconds."""
        return self._create(start, child_tags(batch, line_number, None), batch.flow_name)

    def _create(self, start: float, tags: dict[str, str], name: str) -> str:
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        run = self._store.create_run(self.experiment_id, tags["mlflow.user"], milliseconds(start), run_tags, name)
        if not run.info.run_id:  # JSON of somebody else's
            raise TrackingDown(f"MLflow at {self.shown_uri} made a run and did not say which.")
        return str(run.info.run_id)

    def complete(self, run_id: str, payload: RunPayload) -> None:
        """Log a run's values and end it: two requests if the values fit into one."""
        self.log(run_id, payload)
        self.end(run_id, payload.status, payload.end_ms)

    @_writes
    def log(self, run_id: str, payload: RunPayload) -> None:
        """Log params, tags and metrics of a run, all in one request where MLflow takes them so; long texts before.

        Where these cannot be kept, the cut values say so.
        """
        if why := self.keep_texts(run_id, payload.texts):
            payload = payload.without_texts(why)
        at = payload.end_ms or milliseconds(time.time())
        for part in requests_of(payload):
            metrics = [Metric(key, value, at, 0) for key, value in part.metrics.items()]
            params = [Param(key, value) for key, value in part.params.items()]
            tags = [RunTag(key, value) for key, value in part.tags.items()]
            self._store.log_batch(run_id, metrics, params, tags)

    @_writes
    def keep_texts(self, run_id: str, texts: Mapping[str, str]) -> str:
        """Keep long texts as files of a run, and return why they cannot be kept, nothing if they are.

        What may pass is tried again, but for those that come while none is kept.
        """
        if not texts:
            return ""
        stop = stop_after_attempt(1 if self._keeps_none.is_set() else _TRIES)
        again = Retrying(stop=stop, wait=_PAUSE, retry=retry_if_exception(_may_pass), reraise=True)
        try:
            again(lambda: self._artifacts(run_id).log_texts(texts))
        except ArtifactsFailed as error:
            self._keeps_none.set()
            self.lost[run_id] = str(error)
            return error.reason
        self._keeps_none.clear()
        self.lost.pop(run_id, None)
        return ""

    @_writes
    def log_table(self, run_id: str, path: Path, is_scored: bool = True) -> None:
        """Log a file as an artifact that MLflow shows as a table, and `mlflow.load_table` reads.

        Where artifacts cannot be kept, that is told of a table with scores; another one only repeats what runs show.
        """
        run = self._store.get_run(run_id)
        try:
            Artifacts(run, self.tracking_uri).log_file(path)
        except ArtifactsFailed as error:
            if is_scored:
                self.lost[f"{run_id}/{path.name}"] = str(error)
            return
        tables = json.loads(run.data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        if not any(table["path"] == path.name for table in tables):
            listed = json.dumps([*tables, {"path": path.name, "type": "table"}])
            self._store.set_tag(run_id, RunTag(MLFLOW_LOGGED_ARTIFACTS, listed))

    @_writes
    def keep_views(self, wanted: Wanted) -> None:
        """Keep the experiment's shared views, as `tracking.views` has them, where MLflow's own pages show them."""
        if self.tracking_uri.startswith(("databricks", "azureml:")):
            return
        keep_views(self._store, self.experiment_id, wanted)

    @_writes
    def describe(self, run_id: str, text: str, shown: Mapping[str, str]) -> None:
        """Describe a run in Markdown, unless a user has; `shown`: the run's tags."""
        describe(self._store, run_id, text, shown)

    @_writes
    def end(self, run_id: str, status: str, end_ms: int) -> None:
        """Set a run's status and end in one request; the client's own `set_terminated` takes two."""
        self._store.update_run_info(run_id, RunStatus.from_string(status), end_ms, None)

    @_writes
    def delete(self, run_id: str) -> None:
        """Take a run away that shows what another one shows; MLflow can restore it."""
        self._store.delete_run(run_id)

    @_writes
    def adopt_children(self, batch_uid: str, parent_run_id: str) -> None:
        """Put the children of the batch that are below other parents below this one."""
        of_batch = (
            f"tags.`promptflow.batch_uid` = '{batch_uid}' AND tags.`{LINE}` != ''"  # its own may be below another
        )
        where = f"{of_batch} AND tags.`{PARENT}` != '{parent_run_id}'"
        while page := self._page(where):
            for run in page:
                self._store.set_tag(run.info.run_id, RunTag(PARENT, parent_run_id))

    @_writes
    def drop_tags(self, run_id: str, keys: Iterable[str]) -> None:
        """Take tags back that are not true any more."""
        for key in keys:
            try:
                self._store.delete_tag(run_id, key)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it went when no answer came
                    raise
