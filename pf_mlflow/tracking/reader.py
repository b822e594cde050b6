"""Reads batches from an MLflow store and makes nothing in it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage, ViewType
from mlflow.exceptions import MlflowException

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import EXPERIMENT_ID, absolute_store, without_password
from pf_mlflow.tracking.artifacts import Artifacts
from pf_mlflow.tracking.connection import open_store
from pf_mlflow.tracking.errors import capture_answers, translates_errors
from pf_mlflow.tracking.known_run import LINE, SINGLE, KnownRun, restoring

__all__ = ["StoreReader"]

_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_PAGE = 1000
_IS_PARENT = "params.flow != ''"
"""What tells the run of a batch from those of its lines."""


class StoreReader:
    """One experiment of a store. Safe for threads.

    Args:
        tracking_uri: The store's.
        experiment: The experiment's name.
        lock_dir: Where processes that open the same database wait for each other.
        run_id: A run in the experiment, if one is known: somebody may have renamed the experiment since.
    """

    def __init__(self, tracking_uri: str, experiment: str, lock_dir: Path, run_id: str | None = None) -> None:
        self.tracking_uri = absolute_store(tracking_uri, Path.cwd())
        self.shown_uri = without_password(self.tracking_uri)
        self.experiment = experiment
        self.experiment_id = ""
        """Empty as long as there is no such experiment."""
        self._lock_dir = lock_dir
        self._known_run_id = run_id
        self._store: Any = None
        """MLflow's own, `None` as long as there is none."""
        capture_answers()

    @translates_errors
    def open(self) -> None:
        """Open the store; one that does not exist yet is empty.

        Raises:
            TrackingRefused: wrong credentials, or a database that cannot be used.
            TrackingDown: the store cannot be reached.
        """
        self._store = open_store(self.tracking_uri, self._lock_dir, makes=False)

    @translates_errors
    def open_experiment(self) -> None:
        """Find the experiment, opening the store first.

        One that was found once is looked at again, whatever it is called by now.

        Raises:
            TrackingRefused: wrong credentials, no rights, or an experiment that was deleted.
            TrackingDown: the store cannot be reached.
        """
        if self._store is None:
            self.open()
        found = self._experiment() if self._store else None
        if found and found.lifecycle_stage == "deleted":
            raise TrackingRefused(
                f"The experiment {self.experiment!r} at {self.shown_uri} is deleted — restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME."
            )
        if found:
            self.experiment, self.experiment_id = found.name, found.experiment_id

    def _experiment(self) -> Any:
        run = self._run(self._known_run_id) if self._known_run_id and not self.experiment_id else None
        if known := run.info.experiment_id if run else self.experiment_id:
            return self._store.get_experiment(known)
        if not self.experiment.startswith(EXPERIMENT_ID):
            return self._store.get_experiment_by_name(self.experiment)
        try:
            return self._store.get_experiment(self.experiment.removeprefix(EXPERIMENT_ID))
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
            raise TrackingRefused(
                f"There is no experiment of {self.experiment} at {self.shown_uri} — `mlflow experiments search` lists "
                "those there are; set the id of one, or MLFLOW_EXPERIMENT_NAME."
            ) from error

    @translates_errors
    def check_outer_run(self, run_id: str) -> None:
        """See to it that a batch can be put below a run of the user's: MLflow shows no run below one elsewhere.

        Raises:
            TrackingRefused: there is no such run, or it is deleted, or in another experiment.
        """
        below = f"no batch can be put below the run {run_id!r}"
        other = 'name another with --parent-run or PF_MLFLOW_PARENT_RUN, or none: parent_run="" in Python'
        run = self._run(run_id)
        if run is None:
            raise TrackingRefused(f"MLflow at {self.shown_uri} has no such run, so {below} — {other}.")
        info = run.info
        if info.lifecycle_stage == "deleted":
            raise TrackingRefused(f"It is deleted, so {below} — restore it with `{restoring(run_id)}`.")
        name = self._store.get_experiment(info.experiment_id).name
        if self.experiment not in (name, f"{EXPERIMENT_ID}{info.experiment_id}"):
            raise TrackingRefused(
                f"It is in the experiment {name!r} and the batch goes to {self.experiment!r}, so {below} — set "
                f"MLFLOW_EXPERIMENT_NAME={shlex.quote(name)}, or {other}."
            )

    def _run(self, run_id: str) -> Any:
        """Return MLflow's own run, `None` if there is none."""
        try:
            return self._store.get_run(run_id) if self._store else None
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
            return None

    def runs(self, batch_uid: str, which: str = "") -> Iterator[KnownRun]:
        """Yield the batch's parent and child runs as MLflow shows them; `which`: more of a filter, with its `AND`."""
        where = f"tags.`promptflow.batch_uid` = '{batch_uid}'{which}"
        if self.experiment_id:
            yield from map(KnownRun.of, _on_all_pages(lambda token: self._page(where, token)))

    @translates_errors
    def run(self, run_id: str) -> KnownRun:
        """Return one run as MLflow shows it."""
        return KnownRun.of(self._store.get_run(run_id))

    @translates_errors
    def active_run(self, run_id: str) -> KnownRun | None:
        """Return one run as MLflow shows it, `None` if it is not there any more, or somebody deleted it."""
        run = self._run(run_id)
        return KnownRun.of(run) if run and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None

    def find_child(self, batch: Batch, line_number: int) -> str | None:
        """Return the id of a line's run, `None` if MLflow has none."""
        tag = SINGLE if batch.single else LINE
        found = self._page(f"tags.`promptflow.batch_uid` = '{batch.uid}' AND tags.`{tag}` = '{line_number}'", most=1)
        return str(found[0].info.run_id) if found else None

    def deleted_parent(self, batch_uid: str) -> str | None:
        """Return the id of a parent run of the batch that somebody deleted in MLflow, `None` if there is none."""
        if not self.experiment_id:
            return None
        of_batch = f"tags.`promptflow.batch_uid` = '{batch_uid}'"
        for where, most in ((f"{of_batch} AND {_IS_PARENT}", 1), (of_batch, 10)):  # it may have died without values
            found = self._page(where, view=ViewType.DELETED_ONLY, most=most)
            if parent := next((run.info.run_id for run in found if LINE not in run.data.tags), None):
                return str(parent)
        return None

    @translates_errors
    def _page(
        self, where: str, token: str | None = None, view: str = ViewType.ACTIVE_ONLY, most: int | None = None
    ) -> Any:
        """Return runs, the earliest first: a batch starts before its lines."""
        order = ["attributes.start_time ASC"]
        return self._store.search_runs([self.experiment_id], where, view, most or _PAGE, order, token)

    @translates_errors
    def batches_named(self, name: str) -> list[tuple[Batch, str, str]]:
        """Return the batches of a name in any experiment, newest first, with the ids of experiment and parent run."""
        if self._store is None or ("'" in name and '"' in name):
            return []
        quote = '"' if "'" in name else "'"
        names = self._experiment_names()
        runs = self._batches(names, f"tags.`promptflow.run_id` = {quote}{name}{quote} AND {_IS_PARENT}")
        return [(self._batch(run, names), run.info.experiment_id, run.info.run_id) for run in runs]

    @translates_errors
    def newest_batch(self) -> tuple[str, str] | None:
        """Return the ids of experiment and run of the newest batch in any experiment, `None` if there is none."""
        runs = self._batches(self._experiment_names(), _IS_PARENT, 1) if self._store else []
        return next(((run.info.experiment_id, run.info.run_id) for run in runs), None)

    def _experiment_names(self) -> dict[str, str]:
        experiments = _on_all_pages(lambda token: self._store.search_experiments(page_token=token))
        return {one.experiment_id: one.name for one in experiments}

    def _batches(self, experiments: Iterable[str], where: str, most: int = _PAGE) -> Any:
        """Return parent runs, newest first."""
        order, ids = ["attributes.start_time DESC"], [*experiments]
        return self._store.search_runs(ids, where, ViewType.ACTIVE_ONLY, most, order, None) if ids else []

    def _batch(self, run: Any, experiments: dict[str, str]) -> Batch:
        tags = run.data.tags
        return Batch(
            uid=tags.get("promptflow.batch_uid", ""),
            name=tags["promptflow.run_id"],
            flow_name=run.data.params["flow"],
            tracking_uri=self.shown_uri,
            experiment=experiments[run.info.experiment_id],
            user=tags.get("mlflow.user", ""),
            client_pid=0,
            client_started=0.0,
        )

    def parent_id(self, batch_uid: str) -> str | None:
        """Return the run of a batch, `None` if there is none."""
        return next((run.run_id for run in self.runs(batch_uid, f" AND {_IS_PARENT}")), None)

    def all_but_completed_lines(self, batch_uid: str) -> Iterator[KnownRun]:
        """Yield the runs of a batch that are not FINISHED, and its parent; without a parent all runs."""
        finished = " AND attributes.status = 'FINISHED'"
        has_parent = False
        for which in (f"{finished} AND {_IS_PARENT}", " AND attributes.status != 'FINISHED'"):
            for run in self.runs(batch_uid, which):
                has_parent |= run.line_number is None
                yield run
        if not has_parent:
            yield from self.runs(batch_uid, finished)

    @translates_errors
    def text(self, run_id: str, path: str) -> str:
        """Return a text that is an artifact of a run."""
        return self._artifacts(run_id).text(path)

    def _artifacts(self, run_id: str) -> Artifacts:
        return Artifacts(self._store.get_run(run_id), self.tracking_uri)


def _on_all_pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield what stands on all pages of an answer."""
    token: str | None = ""
    while token is not None:
        page = ask(token or None)
        yield from page
        token = page.token or None
