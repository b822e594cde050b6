"""Brings one batch into MLflow as far as it is known: for the delivery process as for `pf-mlflow sync`."""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from shlex import quote

from pf_mlflow.delivery.reconcile import Reconciliation
from pf_mlflow.delivery.retry_policy import CircuitBreaker, Deadline
from pf_mlflow.delivery.spooled_batch import SpooledBatch
from pf_mlflow.delivery.write_queue import QueuedLine, WriteQueue
from pf_mlflow.errors import BadInput, PfMlflowError, TrackingDown, TrackingRefused
from pf_mlflow.projection.write_result import Changes, LineWritten
from pf_mlflow.records.batch import command_on
from pf_mlflow.records.source import Source
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import restoring
from pf_mlflow.versions import check_versions

__all__ = ["Delivered", "DeliveryObserver", "Policy", "deliver_once"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """How a batch is delivered.

    Attributes:
        deadline: Until when an MLflow that does not answer is tried again.
        follows: Whether lines that are still to come are waited for.
        retries_refused: Whether what MLflow refused earlier is tried again.
        dry_run: Whether it is only found out what would be done.
    """

    deadline: Deadline
    follows: bool = False
    retries_refused: bool = False
    dry_run: bool = False


class DeliveryObserver:
    """Hears how a delivery goes on; does nothing by itself."""

    def started(self, complete: int) -> None:
        """MLflow answers, and has so many lines of the batch already."""

    def goes_on(self) -> None:
        """The delivery is well; called several times a second while it waits for lines."""

    def line_written(self, line: QueuedLine, written: LineWritten) -> None:
        """A line was written or refused."""

    def no_answer(self, error: TrackingDown, is_down: bool) -> None:
        """MLflow did not answer a request, and perhaps nobody at all."""

    def answers_again(self) -> None:
        """An MLflow that was down answers."""

    def remarked(self, sentence: str) -> None:
        """MLflow has all of the batch, but for what the sentence says; the spool is about to know."""


@dataclass
class Delivered:
    """What was found of a batch, and done."""

    tracking_uri: str = ""
    """Where it belongs, without password."""
    parent_run_id: str | None = None
    is_closed: bool = False
    """Whether MLflow has all of it now."""
    is_settled: bool = False
    """Whether the spool knows it too: a full disk takes nothing."""
    lines: int = 0
    """How many a closed batch has."""
    changes: Changes = field(default_factory=Changes)
    lacking: int = 0
    """Lines of whose long texts no file could keep the whole, before anything was done."""
    deleted: str | None = None
    """That somebody deleted the batch in MLflow, which is not for us to undo, and the remedy: it is left alone."""
    error: Exception | None = None
    """What kept it from being closed; the records stay in the spool."""
    unread: str | None = None
    """Which lines of a closed batch MLflow lacks, since what the source kept of them cannot be read."""
    lost: str | None = None
    """Why MLflow does not have the whole of long texts, or an evaluation's table."""

    @property
    def is_deleted(self) -> bool:
        """Whether somebody deleted the batch in MLflow."""
        return self.deleted is not None

    @property
    def trouble(self) -> str | None:
        """The error as a sentence, or what was lost without one."""
        if self.deleted:
            return self.deleted
        if self.error is None or isinstance(self.error, PfMlflowError):
            return str(self.error) if self.error else self.unread or self.lost
        return f"{type(self.error).__name__}: {self.error}"


def deliver_once(
    spool: Spool,
    source: Source,
    tracking_uri: str,
    access: AbstractContextManager[None],
    policy: Policy,
    observer: DeliveryObserver,
) -> Delivered:
    """Write to MLflow what it lacks of a batch, and close the batch; raises nothing.

    Args:
        spool: Holds what did not reach MLflow before.
        source: The batch, whose lock the caller holds; over, unless the policy follows it.
        tracking_uri: Where it belongs, with password.
        access: Held while it is asked: keeps back what is meant for others.
        policy: How patiently, and what for.
        observer: Hears how it goes on.
    """
    done = Delivered()
    try:
        check_versions()
        with access:
            _Delivery(spool, source, tracking_uri, policy, observer, done).run()
    except Exception as error:
        if not isinstance(error, PfMlflowError):
            log.exception("batch %s", source.batch.name)
        done.error = error
    return done


class _Delivery:
    def __init__(
        self,
        spool: Spool,
        source: Source,
        tracking_uri: str,
        policy: Policy,
        observer: DeliveryObserver,
        done: Delivered,
    ) -> None:
        from pf_mlflow.projection.evaluation_runs import writer_of
        from pf_mlflow.tracking.reader import StoreReader
        from pf_mlflow.tracking.writer import StoreWriter

        self._batch, self._policy, self._observer, self._done = source.batch, policy, observer, done
        place, run_id = (tracking_uri, self._batch.experiment, spool.folder), spool.run_of(self._batch)
        self._source, self._reader = source, StoreReader(*place, run_id)
        self._store = StoreWriter(*place, policy.dry_run, run_id)
        self._writer = writer_of(self._store, source)
        self._spooled = SpooledBatch(spool, self._batch.uid, policy.dry_run)
        self._breaker = CircuitBreaker(policy.deadline, self._on_failure, observer.answers_again)
        done.tracking_uri, done.changes = self._store.shown_uri, self._writer.changes

    def run(self) -> None:
        call = self._breaker.call
        self._refuse_nothing()
        call(self._store.open_experiment)
        call(self._writer.read_existing)
        self._done.lacking = len(self._writer.existing.lacking_texts)
        if self._writer.existing.parent is None and self._is_deleted():
            return
        self._observer.started(len(self._writer.existing.complete))
        if self._policy.retries_refused:
            self._spooled.reopen(self._batch)
        try:
            self._note_parent(call(self._writer.open_parent))
            self._write_lines()
            self._close()
        except TrackingRefused:
            if not self._is_deleted():  # meanwhile
                raise

    def _refuse_nothing(self) -> None:
        """Refuse a batch of which neither its source, nor the spool, nor MLflow has anything.

        Raises:
            BadInput: it is such a batch.
        """
        folder = self._source.folder_gone()
        if folder is None or self._spooled.has_lines:
            return
        store = self._reader  # which makes nothing
        self._breaker.call(store.open_experiment)
        uid = self._batch.base_uid or self._batch.uid
        if not self._breaker.call(lambda: any(store.runs(uid)) or store.deleted_parent(uid)):
            raise BadInput(
                f"promptflow's folder {folder} is gone, and MLflow has nothing of the batch: there is nothing to bring "
                f"in; restore the folder, or forget the batch with `pf run delete --name {quote(self._batch.name)}`."
            )

    def _note_parent(self, run_id: str | None) -> None:
        self._spooled.set_parent(run_id, self._store.experiment_id)
        self._done.parent_run_id = run_id or None

    def _is_deleted(self) -> bool:
        """Note whether somebody deleted the batch's run in MLflow, or that of the batch which it scores.

        Raises:
            TrackingRefused: the whole experiment is deleted.
        """
        uid, call = self._batch.base_uid or self._batch.uid, self._breaker.call
        if self._batch.single or call(lambda: self._store.parent_id(uid)):
            return False
        call(self._store.open_experiment)
        if parent := call(lambda: self._store.deleted_parent(uid)):
            whose = f"the runs of {self._batch.base_name!r}" if self._batch.base_uid else "its runs"
            self._done.deleted = (
                f"Somebody deleted {whose} in MLflow; `{restoring(parent)}` brings the batch back, then "
                f"`{command_on('sync', self._batch.name)}` the {'scores' if self._batch.base_uid else 'lines'}."
            )
        return self._done.is_deleted

    def _write_lines(self) -> None:
        with WriteQueue.of(self._writer, self._breaker) as queue:
            reconciliation = Reconciliation(self._writer, self._spooled, queue, self._observer.line_written)
            try:
                if self._policy.follows:
                    reconciliation.follow(self._observer.goes_on)
                reconciliation.complete()
            finally:
                self._spooled.flush()

    def _close(self) -> None:
        summary = self._breaker.call(self._writer.close_parent)
        if (parent := self._writer.existing.parent) and parent.run_id != self._done.parent_run_id:
            self._note_parent(parent.run_id)  # another deliverer's
        self._done.unread = self._unread(self._spooled.refused())
        if lost := self._store.lost:
            self._done.lost = f"{next(iter(lost.values()))} — {self._what_is_lost(len(lost))}"
        if remark := self._done.trouble or self._writer.remark:
            self._observer.remarked(remark)  # whoever waits for the batch leaves when it is closed
        self._spooled.close(summary, is_awaited=self._policy.follows)
        self._done.is_closed, self._done.is_settled = True, self._spooled.is_settled
        self._done.lines = summary.lines_total

    def _unread(self, refused: Container[int]) -> str | None:
        existing = self._writer.existing
        return self._source.unread(
            len(existing.complete) + len(existing.incomplete),
            lambda number: existing.run_id(number) is None and number not in refused,
        )

    def _what_is_lost(self, times: int) -> str:
        lines = len(self._writer.existing.lacking_texts)
        if not lines:
            return f"long texts are cut ({times} times), and say so."
        remedy = command_on("sync", self._batch.name)
        return f"long texts are cut (of {lines} lines), and say so; `{remedy}` brings them once files can be kept."

    def _on_failure(self, error: TrackingDown) -> None:
        self._observer.no_answer(error, self._breaker.is_open)
