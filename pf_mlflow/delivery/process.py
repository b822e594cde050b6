"""The delivery process: writes the lines of one batch to MLflow as they come, then mends what is left and closes it."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
from filelock import Timeout

from pf_mlflow.delivery.prestart import AHEAD, answer_ahead
from pf_mlflow.delivery.reconcile import Mending, Settled
from pf_mlflow.delivery.retry_policy import Patience, keep_trying
from pf_mlflow.delivery.write_queue import Work
from pf_mlflow.errors import PfMlflowError, TrackingDown
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings, read_settings
from pf_mlflow.sources.promptflow.local_batch import tracking_uri_of
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.spool.launch import deliver_in_background, is_held, lock_of, one_evaluation_of, start_delivery
from pf_mlflow.spool.processes import started_at
from pf_mlflow.spool.store import Spool
from pf_mlflow.versions import check_versions

__all__ = ["Delivery", "main"]

_POLL = 0.05
"""Seconds between two looks at the spool while nothing happens …"""
_BREATH = 0.03
"""… and while much does."""
_BEAT_EVERY = 5.0

T = TypeVar("T")
log = logging.getLogger(__name__)


def main(spool_dir: str, batch_uid: str = "", experiment: str = "") -> int:
    """Deliver one batch, or what earlier ones left over; the entry point of the detached process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    settings = read_settings()
    if not batch_uid:
        return _deliver_leftovers(Spool(Path(spool_dir)), settings)
    if batch_uid == AHEAD and not (batch_uid := answer_ahead(experiment, Path(spool_dir))):
        return 0
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # this process has its own retries, which it can end
    return _deliver_batch(Spool(Path(spool_dir)), batch_uid, settings)


def _deliver_batch(spool: Spool, batch_uid: str, settings: Settings) -> int:
    batch = spool.batch(batch_uid)
    if _leftovers(spool, but=batch_uid):
        start_delivery(spool.folder)
    # A line that came while the process was about to end found it alive, and started no other.
    while batch and _deliver(spool, batch, settings, patient=True) and spool.pending(batch_uid, 1):
        log.info("batch %s: lines came after its end", batch.name)
    return 0


def _deliver(spool: Spool, batch: Batch, settings: Settings, patient: bool) -> bool:
    try:
        with lock_of(spool.folder, batch.uid).acquire(timeout=2), one_evaluation_of(spool.folder, batch):
            Delivery(spool, batch, settings, patient).run()
    except Timeout:
        log.info("batch %s: another process is at it", batch.name)
        return False
    except PfMlflowError as error:
        log.error("batch %s: %s", batch.name, error)
        return False
    return True


def _leftovers(spool: Spool, but: str = "") -> list[Batch]:
    """Return the batches that are over, that MLflow does not fully have, and that nobody is at."""
    open_ones = (batch for batch in spool.leftovers() if batch.uid != but)
    return [one for one in open_ones if not is_held(spool.folder, one.uid) and not LocalSource(one).is_running()]


def _deliver_leftovers(spool: Spool, settings: Settings) -> int:
    """Try once what earlier batches left over; silently, since their users were told."""
    try:
        with lock_of(spool.folder, "leftovers").acquire(timeout=0):
            for batch in _leftovers(spool):
                _deliver(spool, batch, settings, patient=False)
    except Timeout:
        log.info("leftovers: another process is at them")
    return 0


class Delivery:
    """Brings one batch from the spool to MLflow; whoever runs it holds the batch's lock."""

    def __init__(self, spool: Spool, batch: Batch, settings: Settings, patient: bool) -> None:
        from pf_mlflow.projection.evaluation_runs import writer_of
        from pf_mlflow.tracking.writer import StoreWriter

        self.spool = spool
        self.batch = batch
        self.source = LocalSource.of(batch, spool)
        self.projection = StoreWriter(tracking_uri_of(batch, settings), batch.experiment, spool.folder)
        self.writer = writer_of(self.projection, self.source)
        self._settled = Settled(spool, batch.uid, self.writer)
        self._give_up_after = settings.give_up_after if patient else -1.0
        self._failures = 0
        self._outage = False
        self._beaten = -_BEAT_EVERY

    def run(self) -> None:
        """Deliver until the batch is over and every line is in MLflow.

        Raises:
            TrackingRefused: MLflow said no for good; the records stay in the spool.
            TrackingDown: MLflow stayed out of reach for the set time after the batch's end; the records stay.
        """
        try:
            self._open()
            with Work.of(self.writer, self._is_time_up, self._on_failure) as work:
                self._follow(work)
                Mending(self.writer, self.spool, self._settled, lambda written: self._beat()).run(work)
            self._close()
        except Exception as error:
            self._settled.flush()
            sentence = str(error) if isinstance(error, PfMlflowError) else f"{type(error).__name__}: {error}"
            with self._spool_may_fail():
                waiting = self.spool.waiting(self.batch.uid)
                self._tell(f"{sentence} Nothing is lost: {waiting} lines wait in the spool.")
            raise

    def _open(self) -> None:
        self._beat()
        check_versions()
        if self.batch.base_uid:
            self._await_base(self.batch.base_uid)
        self._try(self.projection.open_experiment)
        self._try(self.writer.take_up)
        parent = self._try(self.writer.open_parent)
        with self._spool_may_fail():
            self.spool.set_parent(self.batch.uid, parent, self.projection.experiment_id)
        log.info("batch %s: parent run %s", self.batch.name, parent)

    def _await_base(self, base_uid: str) -> None:
        """Let the batch be delivered first whose lines this one scores."""
        while self._is_on_its_way(base_uid) and not self._is_time_up():
            self._beat()
            deliver_in_background(self.spool, base_uid)
            time.sleep(_POLL)

    def _is_on_its_way(self, uid: str) -> bool:
        waiting = self.spool.waiting(uid) > len(self.spool.refused(uid))
        return waiting or is_held(self.spool.folder, uid)

    def _follow(self, work: Work) -> None:
        """Write lines as they come, until the batch is over and none is left."""
        while True:
            over = self.source.over_since() is not None
            self._settle(work)
            seen = self.spool.pending(self.batch.uid, max(8, work.room) + len(work) + len(self._settled))
            pending = [line for line in seen if not self._settled.has(line)]
            for line in pending:
                work.offer(line.line_number, self._settled.step(line))
            if over and not pending and work.is_idle:
                return
            self._beat()
            time.sleep(_BREATH)

    def _settle(self, work: Work) -> None:
        for written in work.finished(_POLL):
            self._answered()
            self._settled.note(written)
            if written.refused and self.writer.changes.refused == 1:
                self._tell(f"Line {written.line_number}: {written.refused} The record is kept in the spool.")
        self._settled.flush()

    def _close(self) -> None:
        if self.writer.has_doubt:
            self._try(self.writer.take_up)
        summary = self._try(self.writer.close_parent)
        with self._spool_may_fail():
            self.spool.close_batch(self.batch.uid, summary.to_json())
        log.info("batch %s: closed with %d lines", self.batch.name, summary.lines_total)

    def _try(self, step: Callable[[], T]) -> T:
        result = keep_trying(step, self._is_time_up, self._on_failure)
        self._answered()
        return result

    def _is_time_up(self) -> bool:
        since = self.source.over_since()
        over_for = 0.0 if since is None else time.monotonic() - since
        return over_for > self._give_up_after

    def _on_failure(self, error: TrackingDown, patience: Patience | None = None) -> None:
        self._beat()
        self._failures += 1
        is_down = patience.is_down if patience else self._failures >= 2
        if is_down and not self._outage:
            self._outage = True
            self._tell(f"{error} It is tried again; nothing is lost, the records wait in the spool.")

    def _answered(self) -> None:
        self._failures = 0
        if self._outage:
            self._outage = False
            with self._spool_may_fail():
                self.spool.tell(self.batch.uid, None)
            log.info("batch %s: MLflow answers again", self.batch.name)

    def _tell(self, sentence: str) -> None:
        """Leave a sentence for whoever watches the batch; what is new in it goes into the batch's log too."""
        with self._spool_may_fail():
            before = self.spool.tell(self.batch.uid, sentence)
            if before and _without_numbers(before) == _without_numbers(sentence):
                return
        log.warning("batch %s: %s", self.batch.name, sentence)
        self.source.folder.log(sentence)

    def _beat(self) -> None:
        """Show that this process is well."""
        now = time.monotonic()
        if now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            with self._spool_may_fail():
                self.spool.beat(self.batch.uid, os.getpid(), started_at(psutil.Process()), now)

    @contextmanager
    def _spool_may_fail(self) -> Iterator[None]:
        """Go on without the spool: a full disk keeps no line from MLflow."""
        try:
            yield
        except sqlite3.OperationalError as error:
            log.warning("batch %s: the spool cannot be written: %s", self.batch.name, error)


def _without_numbers(sentence: str) -> str:
    return re.sub(r"\d+", "", sentence)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
