"""The delivery process: writes the lines of one batch to MLflow as they come, and ends when MLflow has all of it."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from pathlib import Path

import psutil
from filelock import Timeout

from pf_mlflow.delivery.deliver import Delivered, DeliveryObserver, Policy, deliver_once
from pf_mlflow.delivery.prestart import PRESTART, await_batch
from pf_mlflow.delivery.retry_policy import Deadline
from pf_mlflow.delivery.spooled_batch import spool_may_fail
from pf_mlflow.delivery.write_queue import QueuedLine
from pf_mlflow.errors import TrackingDown
from pf_mlflow.garbage import collect_rarely
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings, read_settings
from pf_mlflow.settings.environment import loopback_unproxied
from pf_mlflow.sources.promptflow.local_batch import tracking_uri_of
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.store_access import access_to_store_of
from pf_mlflow.spool.launch import deliver_in_background, is_held, lock_of, one_evaluation_of, start_delivery
from pf_mlflow.spool.processes import is_alive, started_at
from pf_mlflow.spool.store import Spool

__all__ = ["deliver", "main"]

_POLL = 0.05
"""Seconds between two looks at a batch that is waited for."""
_SUMS_ARE_READ = 5.0
"""Seconds in which a client that waits for a batch has read its sums."""
_BEAT_EVERY = 5.0
"""Seconds between two signs of life."""

log = logging.getLogger(__name__)


def main(spool_dir: str, batch_uid: str = "", experiment: str = "", base_uid: str = "", starter: str = "") -> int:
    """Deliver one batch, or what earlier ones left over; the entry point of the detached process."""
    collect_rarely()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    os.environ.update(loopback_unproxied(os.environ))
    settings = read_settings()
    if not batch_uid:
        return _deliver_leftovers(Spool(Path(spool_dir)), settings)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # this process has its own retries, which it can end
    if batch_uid == PRESTART and not (batch_uid := await_batch(experiment, Path(spool_dir), base_uid, starter)):
        return 0
    return _deliver_batch(Spool(Path(spool_dir)), batch_uid, settings)


def _deliver_batch(spool: Spool, batch_uid: str, settings: Settings) -> int:
    batch = spool.batch(batch_uid)
    if _leftovers(spool, but=batch_uid):
        start_delivery(spool.folder)
    # A line that came while the process was about to end found it alive, and started no other.
    while batch and _deliver_alone(spool, batch, settings, settings.give_up_after) and spool.undelivered(batch_uid):
        log.info("batch %s: lines came after its end", batch.name)
    return 0


def _leftovers(spool: Spool, but: str = "") -> list[Batch]:
    """Return the batches that are over, that MLflow does not fully have, and that nobody is at."""
    open_ones = (batch for batch in spool.leftovers() if batch.uid != but)
    return [one for one in open_ones if not is_held(spool.folder, one.uid) and _is_over(one)]


def _is_over(batch: Batch) -> bool:
    try:
        return not LocalSource(batch).is_running()
    except Exception:  # whatever is odd about it, the others are not
        log.exception("batch %s: nobody knows whether it is over", batch.name)
        return False


def _deliver_leftovers(spool: Spool, settings: Settings) -> int:
    """Try once what earlier batches left over; silently, since their users know."""
    try:
        with lock_of(spool.folder, "leftovers").acquire(timeout=0):
            for batch in _leftovers(spool):
                _try_leftover(spool, batch, settings)
    except Timeout:
        log.info("leftovers: another process is at them")
    return 0


def _try_leftover(spool: Spool, batch: Batch, settings: Settings) -> None:
    try:
        _deliver_alone(spool, batch, settings, patience=-1.0)
    except Exception:  # whatever is odd about it, the others are not
        log.exception("batch %s", batch.name)


def _deliver_alone(spool: Spool, batch: Batch, settings: Settings, patience: float) -> bool:
    """Deliver a batch unless another process does; return whether MLflow has all that the spool had of it."""
    try:
        with lock_of(spool.folder, batch.uid).acquire(timeout=2), one_evaluation_of(spool.folder, batch):
            is_settled = deliver(spool, batch, settings, patience).is_settled
    except Timeout:
        log.info("batch %s: another process is at it", batch.name)
        return False
    _drop_texts(spool, batch)
    return is_settled


def _drop_texts(spool: Spool, batch: Batch) -> None:
    """Take the texts out of a closed batch's sums once its client has had the time to show them."""
    with spool_may_fail():
        state = spool.state(batch.uid)
        if not state or not state.summary:
            return
        until = time.monotonic() + _SUMS_ARE_READ
        while is_alive(batch.client_pid, batch.client_started) and time.monotonic() < until:
            time.sleep(_POLL)
        spool.keep_sums(batch.uid, BatchSummary.from_json(state.summary).without_texts().to_json())


def deliver(spool: Spool, batch: Batch, settings: Settings, patience: float) -> Delivered:
    """Write a batch's lines as they come until it is over, with an MLflow that may be down for so many seconds then."""
    source = LocalSource.of(batch, spool)
    report = _Report(spool, source)
    policy = Policy(Deadline(patience, source.over_since), follows=True)
    report.goes_on()
    if batch.base_uid:
        _await_delivery_of(batch.base_uid, spool, policy.deadline, report)
    access = access_to_store_of(batch, settings)
    done = deliver_once(spool, source, tracking_uri_of(batch, settings), access, policy, report)
    if done.is_closed:
        log.info("batch %s: closed with %d lines", batch.name, done.lines)
        return done
    with spool_may_fail():
        report.trouble(f"{done.trouble} Nothing is lost: {spool.waiting(batch.uid)} lines wait in the spool.")
    return done


def _await_delivery_of(uid: str, spool: Spool, deadline: Deadline, report: _Report) -> None:
    """Let the batch be delivered first whose lines another one scores."""
    while (spool.undelivered(uid) or is_held(spool.folder, uid)) and not deadline.has_passed():
        report.goes_on()
        deliver_in_background(spool, uid)
        time.sleep(_POLL)


class _Report(DeliveryObserver):
    """Shows whoever watches a batch that its delivery is well, or what keeps lines from MLflow."""

    def __init__(self, spool: Spool, source: LocalSource) -> None:
        self._spool = spool
        self._source = source
        self._batch = source.batch
        self._is_down = self._has_refusal = False
        self._beaten = -_BEAT_EVERY

    def goes_on(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            with spool_may_fail():
                self._spool.beat(self._batch.uid, os.getpid(), started_at(psutil.Process()), now)

    def line_written(self, line: QueuedLine, written: LineWritten) -> None:
        self.goes_on()
        if written.refused and line.is_spooled and not self._has_refusal:
            self._has_refusal = True
            self.trouble(f"Line {line.line_number}: {written.refused} The record is kept in the spool.")

    def no_answer(self, error: TrackingDown, is_down: bool) -> None:
        self.goes_on()
        if is_down and not self._is_down:
            self._is_down = True
            self.trouble(f"{error} It is tried again; nothing is lost, the records wait in the spool.")

    def answers_again(self) -> None:
        self._is_down = False
        log.info("batch %s: MLflow answers again", self._batch.name)
        with spool_may_fail():
            self._spool.set_trouble(self._batch.uid, None)

    def remarked(self, sentence: str) -> None:
        self.trouble(sentence)

    def trouble(self, sentence: str) -> None:
        """Leave a sentence in the spool; what is new in it goes into the batch's log too."""
        with spool_may_fail():
            before = self._spool.set_trouble(self._batch.uid, sentence)
            if before and _without_numbers(before) == _without_numbers(sentence):
                return
        log.warning("batch %s: %s", self._batch.name, sentence)
        self._source.folder.log(sentence)


def _without_numbers(sentence: str) -> str:
    return re.sub(r"\d+", "", sentence)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
