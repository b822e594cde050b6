"""Reads batches back from a store and makes nothing in it. Imports mlflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from sqlalchemy import create_engine

from pf_mlflow.records.batch import Batch
from pf_mlflow.tracking.dry_run import Rehearsal
from pf_mlflow.tracking.errors import told
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.links import is_database

__all__ = ["Reader"]

_PARENT = "params.flow != ''"
"""What tells the run of a batch from those of its lines."""


class Reader(Rehearsal):
    """A store to read batches from."""

    @told
    def connect(self) -> None:
        """Open the store and find the experiment.

        Raises:
            TrackingRefused: wrong credentials, no rights, or an experiment that was deleted.
            TrackingDown: the store cannot be reached.
        """
        self.see_it_answer()
        super().connect()

    @told
    def see_it_answer(self) -> None:
        """Raise `TrackingError` if a database cannot be reached."""
        if is_database(self.tracking_uri) and not self.tracking_uri.startswith("sqlite:"):
            engine = create_engine(self.tracking_uri)
            engine.connect().close()  # MLflow itself would try for minutes
            engine.dispose()

    @told
    def batches_named(self, name: str) -> list[tuple[Batch, str, str]]:
        """Return the batches of a name in any experiment, newest first, with the ids of experiment and parent run."""
        if not self._is_there() or ("'" in name and '"' in name):
            return []
        self.see_it_answer()
        self._enter_folder()
        with self._one_at_a_time():
            client = MlflowClient(self.tracking_uri)
        quote = '"' if "'" in name else "'"
        where = f"tags.`promptflow.run_id` = {quote}{name}{quote} AND {_PARENT}"
        newest_first = ["attributes.start_time DESC"]
        names = {one.experiment_id: one.name for one in _all(lambda token: client.search_experiments(page_token=token))}
        runs = client.search_runs([*names], where, order_by=newest_first) if names else []
        return [(self._batch(run, names), run.info.experiment_id, run.info.run_id) for run in runs]

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
        return next((run.run_id for run in self.runs(batch_uid, f" AND {_PARENT}")), None)

    def all_but_completed_lines(self, batch_uid: str) -> Iterator[KnownRun]:
        """Yield the runs of a batch that are not FINISHED, and its parent; without a parent all runs."""
        finished = " AND attributes.status = 'FINISHED'"
        has_parent = False
        for which in (f"{finished} AND {_PARENT}", " AND attributes.status != 'FINISHED'"):
            for run in self.runs(batch_uid, which):
                has_parent |= run.line_number is None
                yield run
        if not has_parent:
            yield from self.runs(batch_uid, finished)

    @told
    def text(self, run_id: str, path: str) -> str:
        """Return a text that is an artifact of a run."""
        with TemporaryDirectory() as folder:
            return Path(self._client.download_artifacts(run_id, path, folder)).read_text("utf-8")


def _all(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield what stands on all pages of an answer."""
    token: str | None = ""
    while token is not None:
        page = ask(token or None)
        yield from page
        token = page.token or None
