"""The delivery process: drains the spool of one batch through the projection, then closes the batch's parent run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from pf_mlflow.batch_end import BatchEnd
from pf_mlflow.errors import PfMlflowError, TrackingDown, TrackingForbidden, TrackingRefused
from pf_mlflow.finished_batch import RunRecord
from pf_mlflow.payload import PARAM_LIMIT, RunPayload, line_payload
from pf_mlflow.preflight import check_versions
from pf_mlflow.records import Batch, LineRecord
from pf_mlflow.settings import Settings, read_settings, without_password
from pf_mlflow.spool import Pending, Spool
from pf_mlflow.summary import LineStats, summarise

if TYPE_CHECKING:
    from pf_mlflow.projection import Projection

__all__ = ["Delivery", "main"]

_POLL = 0.1
"""Seconds between two looks at the spool."""
_OLD_PARAM_LIMIT = 500
"""Characters that servers before MLflow 2.8, and Azure ML, take in a param."""

T = TypeVar("T")
log = logging.getLogger(__name__)


def main(spool_dir: str, batch_uid: str) -> int:
    """Deliver one batch; the entry point of the detached process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # this process has its own retries, which it can end
    spool = Spool(Path(spool_dir))
    batch = spool.batch(batch_uid)
    if batch is None or not _chosen(spool, batch_uid):
        return 0
    settings = read_settings()
    from pf_mlflow.projection import Projection

    uri = settings.tracking_uri if without_password(settings.tracking_uri) == batch.tracking_uri else ""
    projection = Projection(uri or batch.tracking_uri, batch.experiment, spool.folder)
    try:
        Delivery(spool, batch, projection, settings).run()
    except PfMlflowError as error:
        log.error("batch %s: %s", batch.name, error)
        return 1
    return 0


def _chosen(spool: Spool, batch_uid: str, patience: float = 10.0) -> bool:
    """Wait until the spool names this process; on Windows it names the launcher above it."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        state = spool.state(batch_uid)
        if state and state["owner_pid"] in (os.getpid(), os.getppid()):
            return True
        time.sleep(0.02)
    return False


class Delivery:
    """Brings one batch from the spool to MLflow."""

    def __init__(self, spool: Spool, batch: Batch, projection: Projection, settings: Settings) -> None:
        self.spool = spool
        self.batch = batch
        self.projection = projection
        self.end = BatchEnd(batch)
        self._give_up_after = settings.give_up_after
        self._display_name = batch.name
        self._parent: str | None = None
        self._parent_is_bare = False
        self._outage = False
        self._param_limit = PARAM_LIMIT
        self._refused: str | None = None
        self._asked: set[int] = set()
        """Lines whose child run MLflow was asked to make, without an answer yet."""

    def run(self) -> None:
        """Deliver until the batch is over and every line is in MLflow.

        Raises:
            TrackingRefused: MLflow said no for good; the records stay in the spool.
            TrackingDown: MLflow stayed out of reach for the set time after the batch's end; the records stay.
        """
        try:
            self._try(self._open)
            self._drain()
            self._try(self._close)
        except Exception as error:
            sentence = str(error) if isinstance(error, PfMlflowError) else f"{type(error).__name__}: {error}"
            self._tell(f"{sentence} Nothing is lost: {self.spool.waiting(self.batch.uid)} lines wait in the spool.")
            raise

    def _open(self) -> None:
        check_versions()
        self.projection.connect()
        record = self.end.record()
        if record:
            self._display_name = record.display_name
        if not self.batch.single:
            self._take_up_runs()
            self._parent = self._parent or self._create_parent(record)
        if self._parent and self._parent_is_bare:
            self.projection.log(self._parent, self.end.parent_payload())
            self._parent_is_bare = False
        self.spool.set_parent(self.batch.uid, self._parent, self.projection.experiment_id)
        log.info("batch %s: parent run %s", self.batch.name, self._parent)

    def _take_up_runs(self) -> None:
        """Go on with the runs that an earlier delivery process of this batch made."""
        self._parent, children = self.projection.find_runs(self.batch.uid)
        for line_number, run_id in children.items():
            if not self.spool.run_id(self.batch.uid, line_number):
                self.spool.set_run_id(self.batch.uid, line_number, run_id)

    def _create_parent(self, record: RunRecord | None) -> str:
        state = self.spool.state(self.batch.uid)
        start = (record and record.start) or (state["created"] if state else time.time())
        self._parent_is_bare = True
        return self.projection.create_parent(self.batch, self._display_name, start)

    def _drain(self) -> None:
        """Write lines as they come, each by one thread at a time, until the batch is over and none is left."""
        working: dict[int, Future[None]] = {}
        with ThreadPoolExecutor(self.projection.threads) as pool:
            while True:
                over = self.end.reached()
                pending = self.spool.pending(self.batch.uid)
                for line in pending:
                    if line.line_number not in working:
                        working[line.line_number] = pool.submit(self._try, self._deliver, line)
                if over and not pending and not working and not self._complete_from_folder():
                    return
                time.sleep(_POLL)
                for number in [number for number, future in working.items() if future.done()]:
                    working.pop(number).result()

    def _deliver(self, line: Pending) -> None:
        record = LineRecord.from_json(line.record) if line.record else None
        # What was pending may be old news: a step that is tried again may have made the run before.
        run_id = line.run_id or self.spool.run_id(self.batch.uid, line.line_number)
        if not run_id:
            run_id = self._create(line.line_number, record.start if record else line.opened, record)
            self.spool.set_run_id(self.batch.uid, line.line_number, run_id)
        if record is not None:
            self._complete(run_id, record)

    def _create(self, line_number: int, start: float, record: LineRecord | None) -> str:
        if self._parent is None:
            return self.projection.create_single(self.batch, record.run_name if record else "", start)
        if line_number in self._asked and (made := self.projection.find_child(self.batch.uid, line_number)):
            log.info("batch %s: line %d had been made, its answer was lost", self.batch.name, line_number)
            return made
        self._asked.add(line_number)
        run_id = self.projection.create_child(self.batch, line_number, self._parent, start)
        self._asked.discard(line_number)
        return run_id

    def _complete(self, run_id: str, record: LineRecord) -> None:
        payload = line_payload(record, self._display_name, self._param_limit)
        if self.batch.single:
            payload.add_tag("promptflow.run_id", record.run_name)
        try:
            self.projection.complete(run_id, payload)
        except TrackingRefused as error:
            if "length" in str(error) and self._param_limit > _OLD_PARAM_LIMIT:
                self._param_limit = _OLD_PARAM_LIMIT
                return self._complete(run_id, record)
            if isinstance(error, TrackingForbidden):
                raise
            self._refuse(run_id, record.line_number, payload, error)
            return None
        self.spool.delivered(self.batch.uid, record.line_number, LineStats.of(record.line_number, payload).to_json())
        return None

    def _refuse(self, run_id: str, line_number: int, payload: RunPayload, error: TrackingRefused) -> None:
        """End the run of a line whose values MLflow does not take; they stay in the spool."""
        stats = LineStats.of(line_number, payload).to_json()
        self.spool.refuse(self.batch.uid, line_number, str(error), stats)
        if self._refused is None:
            self._refused = f"Line {line_number}: {error}"
            self._tell(f"{self._refused} The record is kept in the spool.")
        try:
            self.projection.end(run_id, payload.status, payload.end_ms)
        except TrackingRefused as again:
            log.warning("batch %s, line %d: %s", self.batch.name, line_number, again)

    def _complete_from_folder(self) -> bool:
        """Spool what promptflow's folder knows of lines that left no record; tell whether there were any."""
        unfinished = self.spool.unfinished(self.batch.uid)
        known = self.spool.known_lines(self.batch.uid)
        found = False
        for record in self.end.missing_lines(unfinished, known):
            self.spool.complete_line(self.batch.uid, record.line_number, record.start, record.to_json())
            found = True
        return found

    def _close(self) -> None:
        summary = summarise([LineStats.from_json(text) for text in self.spool.stats(self.batch.uid)])
        state = self.spool.state(self.batch.uid)
        if self._parent and state and not state["closed"]:
            payload = self.end.closing_payload()
            payload.metrics.update(summary.metrics())
            self.projection.complete(self._parent, payload)
        self.spool.close_batch(self.batch.uid, summary.to_json())
        log.info("batch %s: closed with %d lines", self.batch.name, summary.lines_total)

    def _try(self, step: Callable[..., T], *args: object) -> T:
        """Do a step until it succeeds, MLflow refuses it, or it is time to give up."""
        retrying = Retrying(
            retry=retry_if_exception_type(TrackingDown),
            wait=wait_exponential_jitter(initial=0.2, max=10, jitter=0.5),
            stop=lambda state: self.end.over_for() > self._give_up_after,
            before_sleep=self._on_outage,
            reraise=True,
        )
        result = retrying(step, *args)
        if self._outage:
            self._outage = False
            self.spool.tell(self.batch.uid, None)
            log.info("batch %s: MLflow answers again", self.batch.name)
        return result

    def _on_outage(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.end.reached()
        if state.attempt_number == 2 and not self._outage:
            self._outage = True
            self._tell(f"{error} It is tried again; nothing is lost, the records wait in the spool.")

    def _tell(self, sentence: str) -> None:
        log.warning("batch %s: %s", self.batch.name, sentence)
        self.spool.tell(self.batch.uid, sentence)
        self.end.write_log(sentence)
