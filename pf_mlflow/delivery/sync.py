"""The projection run by hand: brings MLflow in line with whatever batches left behind, or with any local batch."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from filelock import Timeout

from pf_mlflow.delivery.deliver import Delivered, DeliveryObserver, Policy, deliver_once
from pf_mlflow.delivery.retry_policy import Deadline
from pf_mlflow.delivery.write_queue import QueuedLine
from pf_mlflow.errors import BadInput, PfMlflowError
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.local_batch import known_batches, tracking_uri_of
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import run_records
from pf_mlflow.sources.promptflow.store_access import access_to_store_of
from pf_mlflow.spool.launch import end_if_hung, lock_of, one_evaluation_of
from pf_mlflow.spool.store import Spool

__all__ = [
    "DELETED",
    "EVALUATION",
    "IN_LINE",
    "RUNNING",
    "SyncProgress",
    "Synced",
    "sync_batches",
    "sync_batch",
]

log = logging.getLogger(__name__)

IN_LINE = "in line"
MENDED = "mended"
RUNNING = "running"
EVALUATION = "evaluation"
DELETED = "deleted"
FAILED = "failed"

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
    lacking: int = 0
    """Lines of whose long texts no file could keep the whole, before anything was done."""

    @property
    def succeeded(self) -> bool:
        """Whether MLflow is in line now, but for what was left alone on purpose."""
        return self.state != FAILED and not self.refused

    def as_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class SyncProgress:
    """Hears how far `pf-mlflow sync` is; shows nothing by itself."""

    def batch(self, name: str, lines: int) -> None:
        """A batch of about so many lines is taken up."""

    def waits(self, name: str) -> None:
        """Another process is at the batch; it is waited for."""

    def line(self) -> None:
        """A line was written."""


def sync_batches(
    spool: Spool, settings: Settings, names: Sequence[str], every: bool, dry_run: bool, progress: SyncProgress
) -> list[Synced]:
    """Bring MLflow in line with the batches of these names, with all, or else with those that it does not fully have.

    Raises:
        BadInput: names were given though all are asked for, nobody knows one, or its flow's settings cannot be used.
    """
    if names and every:
        raise BadInput("Name batches or ask for every one, not both.")
    chosen, odd = _chosen_batches(spool, settings, names, every)
    return [*odd, *(sync_batch(spool, batch, settings, dry_run, progress) for batch in chosen)]


def _chosen_batches(
    spool: Spool, settings: Settings, names: Sequence[str], every: bool
) -> tuple[list[Batch], list[Synced]]:
    """Return the batches of these names, of all names, or else those that MLflow does not fully have.

    Beside them come the failures of those whose flows have settings that cannot be used, if all are asked for.
    """
    home = promptflow_home()
    left = spool.leftovers(math.inf, refused=True)
    if every:
        names = list(dict.fromkeys([*(one.name for one in run_records(home)), *(batch.name for batch in left)]))
    elif not names:
        return left, []
    found: list[Batch] = []
    odd: list[Synced] = []
    for name in names:
        try:
            found += _batches_named(spool, settings, name)
        except BadInput as error:
            if not every:
                raise
            odd.append(Synced(name, FAILED, "", "", trouble=str(error)))
    return found, odd


def _batches_named(spool: Spool, settings: Settings, name: str) -> list[Batch]:
    known = known_batches(spool, settings, name)
    if not known:
        raise BadInput(f"There is no batch {name!r} in {promptflow_home()}; `pf run list` shows those there are.")
    return known


def sync_batch(spool: Spool, batch: Batch, settings: Settings, dry_run: bool, progress: SyncProgress) -> Synced:
    """Bring MLflow in line with a batch, and raise nothing; in a dry run, only find out what would be done."""
    try:
        return _sync(spool, batch, settings, dry_run, progress)
    except Exception as error:  # whatever is odd about it, the others are not
        log.exception("batch %s", batch.name)
        trouble = str(error) if isinstance(error, PfMlflowError) else f"{type(error).__name__}: {error}"
        return Synced(batch.name, FAILED, batch.tracking_uri, batch.experiment, trouble=trouble)


def _sync(spool: Spool, batch: Batch, settings: Settings, dry_run: bool, progress: SyncProgress) -> Synced:
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # its client would send again what may have been done
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    source = LocalSource.of(batch, spool)
    if source.facts().base_batch and not (spool.waiting(batch.uid) or any(line.scores for line in source.lines())):
        return Synced(batch.name, EVALUATION, batch.tracking_uri, batch.experiment)
    if source.is_running():
        return Synced(batch.name, RUNNING, batch.tracking_uri, batch.experiment)
    started = time.monotonic()
    policy = Policy(Deadline(_PATIENCE), retries_refused=True, dry_run=dry_run)
    with _held(spool, batch, progress), one_evaluation_of(spool.folder, batch):
        uri, access = tracking_uri_of(batch, settings), access_to_store_of(batch, settings)
        done = deliver_once(spool, source, uri, access, policy, _LineProgress(spool, source, progress))
    return _synced(batch, done, spool.refused(batch.uid), time.monotonic() - started)


def _synced(batch: Batch, done: Delivered, refused: Mapping[int, str], seconds: float) -> Synced:
    if done.is_deleted:
        state = DELETED
    elif not done.is_closed or done.unread:
        state = FAILED
    else:
        state = MENDED if done.changes else IN_LINE
    first = next((f"Line {number}: {reason}" for number, reason in refused.items()), None)
    return Synced(
        batch.name,
        state,
        done.tracking_uri or batch.tracking_uri,
        batch.experiment,
        done.parent_run_id,
        done.lines,
        done.changes.made,
        done.changes.completed,
        done.changes.removed,
        max(len(refused), done.changes.refused),
        done.changes.parent,
        done.trouble or first,
        round(seconds, 3),
        done.lacking,
    )


@contextmanager
def _held(spool: Spool, batch: Batch, progress: SyncProgress) -> Iterator[None]:
    """Hold the batch's lock, waiting for a process that delivers it."""
    lock = lock_of(spool.folder, batch.uid)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        progress.waits(batch.name)
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


class _LineProgress(DeliveryObserver):
    def __init__(self, spool: Spool, source: LocalSource, progress: SyncProgress) -> None:
        self._spool, self._source, self._progress = spool, source, progress

    def started(self, complete: int) -> None:
        batch = self._source.batch
        missing = max(self._source.folder.count() - complete, self._spool.waiting(batch.uid))
        self._progress.batch(batch.name, missing)

    def line_written(self, line: QueuedLine, written: LineWritten) -> None:
        self._progress.line()
