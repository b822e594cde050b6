"""Starts the delivery process of a batch before the batch: what takes seconds is done while promptflow is imported."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import psutil

from pf_mlflow.delivery.retry_policy import CircuitBreaker, Deadline
from pf_mlflow.errors import TrackingDown, TrackingRefused
from pf_mlflow.records.batch import command_on
from pf_mlflow.settings import read_settings, without_password
from pf_mlflow.spool.launch import delivery_process
from pf_mlflow.spool.processes import is_alive, started_at
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import restoring
from pf_mlflow.tracking.known_store import is_usable, note_revision

if TYPE_CHECKING:  # which imports mlflow
    from pf_mlflow.tracking.reader import StoreReader

__all__ = ["PRESTART", "PrestartedDelivery", "await_batch"]

PRESTART = "prestart"
"""What the process is started with instead of a batch's uid."""
_ANSWER_WITHIN = 40
"""Seconds that the batch waits for MLflow's answer."""
_LOOK_EVERY = 2.0
"""Seconds between two looks at the starter."""
_RETRY_FOR = 1.0
"""Seconds for which an MLflow that does not answer is asked again."""
_REQUEST_TIMEOUT = "10"
"""Seconds that MLflow may take for one answer, unless the user's own setting says otherwise."""
_GOOD, _REFUSED, _DOWN = "good", "refused", "down"


class PrestartedDelivery:
    """A delivery process that asks MLflow for the experiment, says what it answered, and waits for its batch.

    Args:
        tracking_uri: Where the batch will go, with its password.
        experiment: The experiment's name.
        spool_dir: Folder of the spool.
        base_uid: The batch that is scored, which must not be deleted in MLflow.
    """

    def __init__(self, tracking_uri: str, experiment: str, spool_dir: Path, base_uid: str = "") -> None:
        self._tracking_uri = tracking_uri
        spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        starter = f"{os.getpid()} {started_at(psutil.Process())}"
        self._process = delivery_process(spool_dir, PRESTART, experiment, base_uid, starter, **pipes)

    def warning(self) -> str | None:
        """Wait for the answer: `None` if all is well, a sentence if MLflow cannot be reached now.

        Raises:
            TrackingRefused: MLflow said no for good.
        """
        answers: list[str] = []
        reader = Thread(target=lambda: answers.append(self._process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        reader.join(_ANSWER_WITHIN)
        if not answers:
            self._process.kill()
            return f"MLflow at {without_password(self._tracking_uri)} has not answered for {_ANSWER_WITHIN} seconds."
        kind, _, sentence = answers[0].strip().partition(" ")
        if kind == _GOOD:
            return None
        self.dismiss()
        if kind == _REFUSED:
            raise TrackingRefused(sentence)
        return sentence or "The delivery process has ended; its log `delivery.log` in the spool's folder says why."

    @property
    def is_waiting(self) -> bool:
        """Whether the process waits for a batch."""
        return self._process.poll() is None and not self._process.stdin.closed  # type: ignore[union-attr]

    def deliver(self, batch_uid: str) -> None:
        """Let it deliver a batch, whatever becomes of this process."""
        self._send(f"{batch_uid}\n")
        self._process.returncode = 0  # it outlives its starter on purpose: no "still running" warning at exit

    def dismiss(self) -> None:
        """Let it end, if it was given no batch."""
        if self.is_waiting:
            self._send("")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def _send(self, text: str) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it was killed: the first line that ends starts another
            self._process.stdin.write(text)
            self._process.stdin.close()


def await_batch(experiment: str, spool_dir: Path, base_uid: str, starter: str) -> str:
    """Ask MLflow for an experiment, say what it answered, and return the uid of the batch given; `""` for none.

    Of a store that nothing speaks against that is said before MLflow is imported: the batch does not wait for it.

    Args:
        experiment: The experiment's name.
        spool_dir: Folder of the spool.
        base_uid: The batch that is scored; `""` for none.
        starter: The process to end with if it gives no batch: its number and its start, with a space between.
    """
    Thread(target=_end_with, args=(starter, reading := Event(), given := Event()), daemon=True).start()
    is_known = not (base_uid or read_settings().parent_run) and is_usable(_tracking_uri(), experiment, spool_dir)
    if is_known:
        _say(_GOOD)
    else:
        reading.set()  # nothing is given before the answer
    answer = _answer(experiment, spool_dir, base_uid)
    if not is_known:
        _say(answer)
    log = sys.stderr.fileno()
    os.dup2(log, sys.stdout.fileno())  # whoever listened need not live as long
    reading.set()
    uid = sys.stdin.readline().strip()
    given.set()
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    return uid


def _say(answer: str) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _tracking_uri() -> str:
    return os.environ["MLFLOW_TRACKING_URI"]


def _end_with(starter: str, reading: Event, given: Event) -> None:
    """End when the starter does: what it forked may hold the other end of stdin, which then has no end.

    `reading`: that stdin is read by now, or that nothing can stand there.
    """
    pid, started = starter.split()
    while is_alive(int(pid), float(started)):
        if given.wait(_LOOK_EVERY):
            return
    reading.wait()
    if not given.wait(_LOOK_EVERY):  # what it wrote last has been read by now
        os._exit(0)


def _answer(experiment: str, spool_dir: Path, base_uid: str) -> str:
    from pf_mlflow.tracking.writer import StoreWriter

    try:
        run_id = None
        with suppress(OSError, sqlite3.Error):  # without a spool its name alone is known
            state = Spool(spool_dir).state(base_uid) if base_uid else None
            run_id = state.parent_run_id if state else None
        store = StoreWriter(_tracking_uri(), experiment, spool_dir, run_id=run_id)
        with _answered_soon():
            call = CircuitBreaker(Deadline(_RETRY_FOR)).call
            if (outer := read_settings().parent_run) and not base_uid:
                call(store.open)
                call(lambda: store.check_outer_run(outer))
            call(store.open_experiment)
            call(lambda: store.parent_id(base_uid))  # by POST, as all that is written: it may not pass
            if base_uid and (lack := call(lambda: _lack_of_runs(store, Spool(spool_dir), base_uid))):
                return f"{_REFUSED} {lack}"
    except TrackingRefused as error:
        return f"{_REFUSED} {error}"
    except TrackingDown as error:
        return f"{_DOWN} {error}"
    note_revision(_tracking_uri(), spool_dir)
    return _GOOD


def _lack_of_runs(store: StoreReader, spool: Spool, base_uid: str) -> str | None:
    """Return why MLflow has no runs to which scores of a batch could be added, `None` if it has or they are to come."""
    if store.parent_id(base_uid):
        return None
    if deleted := store.deleted_parent(base_uid):
        return f"Somebody deleted the batch to score in MLflow; `{restoring(deleted)}` brings it back."
    with suppress(OSError, sqlite3.Error):  # without a spool nobody knows whether they were there
        state = spool.state(base_uid)
        if state and state.closed:
            remedy = command_on("sync", state.batch.name)
            return f"MLflow has nothing of the batch {state.batch.name!r} any more; `{remedy}` brings it in anew."
    return None


@contextmanager
def _answered_soon() -> Iterator[None]:
    """Give MLflow less time for an answer than it has later, when nobody waits for it."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    if name in os.environ:
        yield
        return
    os.environ[name] = _REQUEST_TIMEOUT
    try:
        yield
    finally:
        del os.environ[name]
