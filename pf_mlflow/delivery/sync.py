"""The projection run by hand: brings MLflow in line with whatever batches left behind, or with any local batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from filelock import Timeout

from pf_mlflow.delivery.reconcile import Mending, Settled
from pf_mlflow.delivery.retry_policy import Patience, keep_trying
from pf_mlflow.delivery.write_queue import Work
from pf_mlflow.errors import BadInput, PfMlflowError, TrackingDown
from pf_mlflow.projection.write_result import Written
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.local_batch import known_batches, tracking_uri_of
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import run_records
from pf_mlflow.spool.launch import end_if_hung, lock_of, one_evaluation_of
from pf_mlflow.spool.store import Spool

__all__ = ["Synced", "Watcher", "chosen_batches", "sync_batch"]

IN_LINE = "in line"
MENDED = "mended"
RUNNING = "running"
EVALUATION = "evaluation"
DELETED = "deleted"
FAILED = "failed"

T = TypeVar("T")

_PATIENCE = 30.0
"""Seconds without an answer after which MLflow is said to be out of reach: somebody is waiting."""


@dataclass(frozen=True)
class Synced:
    """What was found of a batch, and done."""

    name: str
    state: str
    """`in line`, `mended`, `running`, `evaluation`, `deleted` or `failed`."""
    tracking_uri: str
    experiment: str
    parent_run_id: str | None = None
    lines: int = 0
    made: int = 0
    """Lines that had no child run."""
    completed: int = 0
    """Lines whose child run was not complete."""
    removed: int = 0
    """Runs that were there twice."""
    refused: int = 0
    """Lines whose values MLflow does not take."""
    parent: str = ""
    """What was done to the parent run: `made`, `ended`, `updated` or nothing."""
    trouble: str | None = None
    seconds: float = 0.0

    @property
    def is_mendable(self) -> bool:
        """Whether nothing is left that could not be mended."""
        return self.state != FAILED and not self.refused

    def as_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class Watcher:
    """Is told how a batch goes on; says nothing by itself."""

    def batch(self, name: str, lines: int) -> None:
        """A batch of about so many lines is taken up."""

    def waits(self, name: str) -> None:
        """Another process is at the batch; it is waited for."""

    def line(self) -> None:
        """A line was written."""


def chosen_batches(spool: Spool, settings: Settings, names: Sequence[str], every: bool) -> list[Batch]:
    """Return the batches of these names, of all names, or else those that MLflow does not fully have.

    Raises:
        BadInput: neither promptflow nor the spool knows a name.
    """
    home = promptflow_home()
    if every:
        names = list(dict.fromkeys([*(one.name for one in run_records(home)), *(b.name for b in spool.leftovers())]))
    elif not names:
        return spool.leftovers()
    return [batch for name in names for batch in _batches_named(spool, settings, name)]


def _batches_named(spool: Spool, settings: Settings, name: str) -> list[Batch]:
    known = known_batches(spool, settings, name)
    if not known:
        raise BadInput(f"There is no batch {name!r} in {promptflow_home()}; `pf run list` shows those there are.")
    return known


def sync_batch(spool: Spool, batch: Batch, settings: Settings, rehearse: bool, watcher: Watcher) -> Synced:
    """Bring MLflow in line with a batch; if it is only rehearsed, tell what would be done."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # its client would send again what may have been done
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    source = LocalSource.of(batch, spool)
    if source.facts().base_batch and not (spool.waiting(batch.uid) or any(line.scores for line in source.lines())):
        return Synced(batch.name, EVALUATION, batch.tracking_uri, batch.experiment)
    if source.is_running():
        return Synced(batch.name, RUNNING, batch.tracking_uri, batch.experiment)
    started = time.monotonic()
    pass_ = _Pass(spool, source, settings, rehearse, watcher)
    trouble = None
    try:
        with _held(spool, batch, watcher), one_evaluation_of(spool.folder, batch):
            state = pass_.run()
    except PfMlflowError as error:
        state, trouble = FAILED, str(error)
    return pass_.told(state, trouble, time.monotonic() - started)


@contextmanager
def _held(spool: Spool, batch: Batch, watcher: Watcher) -> Iterator[None]:
    """Hold the batch's lock, waiting for a process that delivers it."""
    lock = lock_of(spool.folder, batch.uid)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        watcher.waits(batch.name)
        while not lock.is_locked:
            end_if_hung(spool, batch.uid)
            try:
                lock.acquire(timeout=5)
            except Timeout:
                continue
    try:
        yield
    finally:
        lock.release()


class _Pass:
    def __init__(self, spool: Spool, source: LocalSource, settings: Settings, rehearse: bool, watcher: Watcher) -> None:
        from pf_mlflow.projection.evaluation_runs import writer_of
        from pf_mlflow.tracking.writer import StoreWriter

        self._spool, self._source, self._watcher = spool, source, watcher
        self._batch = batch = source.batch
        self._rehearse = rehearse
        uri = tracking_uri_of(batch, settings)
        self._projection = StoreWriter(uri, batch.experiment, spool.folder, dry_run=rehearse)
        self._writer = writer_of(self._projection, source)
        self._failing_since: float | None = None
        self._lines = 0

    def run(self) -> str:
        """Do all of it and return the state of the batch."""
        self._try(self._projection.open_experiment)
        self._try(self._writer.take_up)
        if self._is_deleted():
            return DELETED
        self._watcher.batch(self._batch.name, self._size())
        if not self._rehearse:
            self._spool.add_batch(self._batch)
            self._spool.retry_refused(self._batch.uid)
        parent = self._try(self._writer.open_parent)
        self._mend()
        summary = self._try(self._writer.close_parent)
        self._lines = summary.lines_total
        if not self._rehearse:
            self._spool.set_parent(self._batch.uid, parent, self._projection.experiment_id)
            self._spool.close_batch(self._batch.uid, summary.to_json())
        return MENDED if self._writer.changes else IN_LINE

    def _is_deleted(self) -> bool:
        """Tell whether somebody deleted the batch in MLflow: that is not for us to undo."""
        standing = self._writer.standing
        if standing.parent or standing.complete or self._batch.single:
            return False
        return self._try(lambda: self._projection.deleted_parent(self._batch.uid)) is not None

    def _size(self) -> int:
        missing = max(0, self._source.folder.count() - len(self._writer.standing.complete))
        return max(missing, self._spool.waiting(self._batch.uid))

    def _mend(self) -> None:
        settled = Settled(self._spool, self._batch.uid, self._writer, self._rehearse)
        with Work.of(self._writer, self._is_time_up, self._on_failure) as work:
            Mending(self._writer, self._spool, settled, self._on_line).run(work)
        if self._writer.has_doubt:
            self._try(self._writer.take_up)

    def _try(self, step: Callable[[], T]) -> T:
        result = keep_trying(step, self._is_time_up, self._on_failure)
        self._failing_since = None
        return result

    def _on_line(self, written: Written) -> None:
        self._failing_since = None
        self._watcher.line()

    def _on_failure(self, error: TrackingDown, patience: Patience | None = None) -> None:
        self._failing_since = self._failing_since or time.monotonic()

    def _is_time_up(self) -> bool:
        return self._failing_since is not None and time.monotonic() - self._failing_since > _PATIENCE

    def told(self, state: str, trouble: str | None, seconds: float) -> Synced:
        """Return what was found and done."""
        changes = self._writer.changes
        refused = self._spool.refused(self._batch.uid)
        if refused and not trouble:
            number, reason = next(iter(refused.items()))
            trouble = f"Line {number}: {reason}"
        parent = self._writer.standing.parent
        return Synced(
            self._batch.name,
            state,
            self._projection.shown_uri,
            self._batch.experiment,
            (parent and parent.run_id) or None,
            self._lines,
            changes.made,
            changes.completed,
            changes.removed,
            max(len(refused), changes.refused),
            changes.parent,
            trouble,
            round(seconds, 3),
        )
