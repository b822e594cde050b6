"""Whether a local batch is over, and since when: by promptflow's record, its client's process and its workers."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable

from pf_mlflow.records.batch import Batch
from pf_mlflow.sources.promptflow.run_record import RunRecord, last_written
from pf_mlflow.spool.entries import OpenWorker
from pf_mlflow.spool.processes import is_alive, someone_works_in

__all__ = ["Life"]

_LOOK_EVERY = 0.5
"""Seconds between two looks at record and processes while promptflow writes no record."""
_STRAGGLERS = 2.0
"""Seconds for which workers may still open lines after their client was killed."""
_LINE_TIMEOUT = 600.0
"""Seconds that promptflow gives a line."""


class Life:
    """The life of one batch; `record` reads promptflow's record of it, `workers` which processes have lines open."""

    def __init__(
        self, batch: Batch, record: Callable[[], RunRecord | None], workers: Callable[[], Iterable[OpenWorker]]
    ) -> None:
        self._batch, self._record, self._workers = batch, record, workers
        self._looked = -math.inf
        self._written = -1
        self._client_gone: float | None = None
        self._over: float | None = None

    def over_since(self) -> float | None:
        """Return since when the batch is known to be over, by `time.monotonic()`; `None` while lines may come."""
        now = time.monotonic()
        if self._over is None and (self._is_written() or now - self._looked >= _LOOK_EVERY):
            self._looked = now
            self._over = now if self._is_over(now) else None
        return self._over

    def _is_written(self) -> bool:
        """Tell whether promptflow has written its records since the last look: the end of a batch is one of them."""
        before, self._written = self._written, last_written(self._batch.promptflow_home)
        return self._written != before

    def _is_over(self, now: float) -> bool:
        if self._has_ended():
            return True
        if not self._is_client_gone():
            return False
        if self._client_gone is None:
            self._client_gone = now
        gone_for = now - self._client_gone
        return self._batch.single or (gone_for >= _STRAGGLERS and not self._has_stragglers(gone_for))

    def is_running(self) -> bool:
        """Tell whether lines may still come, without waiting for any."""
        return not (self._has_ended() or (self._is_client_gone() and not self._has_stragglers()))

    def _has_ended(self) -> bool:
        record = self._record()
        return record is not None and record.is_over

    def _is_client_gone(self) -> bool:
        if self._batch.client_pid:
            return not is_alive(self._batch.client_pid, self._batch.client_started)
        record = self._record()
        return not (record and record.output_path and someone_works_in(record.output_path))

    def _has_stragglers(self, gone_for: float = 0.0) -> bool:
        """Tell whether workers that outlived their client are still in a line, which promptflow gives only so long."""
        longest = float(os.environ.get("PF_LINE_TIMEOUT_SEC") or _LINE_TIMEOUT)
        if gone_for > longest:
            return False
        return any(time.time() - one.since <= longest and is_alive(one.pid, one.started) for one in self._workers())
