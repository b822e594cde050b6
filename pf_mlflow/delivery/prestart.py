"""Starts the delivery process of a batch ahead of it: what takes seconds is done while promptflow is being imported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import without_password
from pf_mlflow.spool.launch import delivery_process

__all__ = ["AHEAD", "DeliveryAhead", "answer_ahead"]

AHEAD = "ahead"
"""What the process is started with instead of a batch's uid."""
_PATIENCE = 40
"""Seconds to wait for MLflow before the batch starts."""
_GOOD, _REFUSED, _DOWN = "good", "refused", "down"


class DeliveryAhead:
    """A delivery process that asks MLflow for the experiment, says so, and waits for its batch.

    Args:
        tracking_uri: Where the batch will go, with its password.
        experiment: The experiment's name.
        spool_dir: Folder of the spool.
    """

    def __init__(self, tracking_uri: str, experiment: str, spool_dir: Path) -> None:
        self._tracking_uri = tracking_uri
        spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = delivery_process(spool_dir, AHEAD, experiment, **pipes)

    def warning(self) -> str | None:
        """Wait for the answer: `None` if all is well, a sentence if MLflow cannot be reached now.

        Raises:
            TrackingRefused: MLflow said no for good.
        """
        told: list[str] = []
        reader = threading.Thread(target=lambda: told.append(self._process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        reader.join(_PATIENCE)
        if not told:
            self._process.kill()
            return f"MLflow at {without_password(self._tracking_uri)} has not answered for {_PATIENCE} seconds."
        kind, _, sentence = told[0].strip().partition(" ")
        if kind == _GOOD:
            return None
        self.dismiss()
        if kind == _REFUSED:
            raise TrackingRefused(sentence)
        return sentence or "The delivery process has ended; its log `delivery.log` in the spool's folder says why."

    @property
    def waits(self) -> bool:
        """Whether the process waits for a batch."""
        return self._process.poll() is None and not self._process.stdin.closed  # type: ignore[union-attr]

    def deliver(self, batch_uid: str) -> None:
        """Let it deliver a batch, whatever becomes of this process."""
        self._send(f"{batch_uid}\n")
        self._process.returncode = 0  # it outlives its starter on purpose: no "still running" warning at exit

    def dismiss(self) -> None:
        """Let it end, if it was given no batch."""
        if self.waits:
            self._send("")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def _send(self, text: str) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it was killed: the first line that ends starts another
            self._process.stdin.write(text)
            self._process.stdin.close()


def answer_ahead(experiment: str, spool_dir: Path) -> str:
    """Ask MLflow for an experiment, tell whoever started this process, and return the batch that it is given."""
    _say(_answer(experiment, spool_dir))
    log = sys.stderr.fileno()
    os.dup2(log, sys.stdout.fileno())  # whoever listened need not live as long
    uid = sys.stdin.readline().strip()
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    return uid


def _say(answer: str) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _answer(experiment: str, spool_dir: Path) -> str:
    from pf_mlflow.errors import TrackingDown
    from pf_mlflow.tracking.writer import StoreWriter

    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in patience}
    os.environ.update({name: before[name] or value for name, value in patience.items()})
    try:
        StoreWriter(os.environ["MLFLOW_TRACKING_URI"], experiment, spool_dir).open_experiment()
    except TrackingRefused as error:
        return f"{_REFUSED} {error}"
    except TrackingDown as error:
        return f"{_DOWN} {error}"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return _GOOD
