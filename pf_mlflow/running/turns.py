"""One batch at a time in a process: while one runs, promptflow's classes, environment, stdout, folder are its."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.private_names import current_line

__all__ = ["own_turn"]

log = logging.getLogger(__name__)

_turn = threading.RLock()


@contextmanager
def own_turn() -> Iterator[None]:
    """Have the process to this thread's batches until the block is left, waiting for those of other threads.

    Raises:
        BadInput: a line of the batch that runs wants to run another, for which it would wait for ever.
    """
    if not _turn.acquire(blocking=False):
        if current_line():
            raise BadInput(
                "A line of a batch cannot run another batch in its own process; start that one in a process of its own."
            )
        log.warning("another batch runs in this process; this one waits until it is over")
        _turn.acquire()
    try:
        yield
    finally:
        _turn.release()
