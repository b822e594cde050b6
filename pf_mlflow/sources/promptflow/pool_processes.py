"""What the processes of promptflow's pool do besides: they end with their client, and leave signals to it.

promptflow's own never look at the client: killed, it would leave them for ever. Pickled by their names, these functions
take the place of promptflow's in the client, and call those in the processes that it starts.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from multiprocessing.managers import Server, SyncManager
from typing import Any

import psutil
from promptflow.executor import _line_execution_process_pool as pool
from promptflow.executor import _process_manager

from pf_mlflow.spool.processes import end_with_client, is_alive, started_at

__all__ = ["manage", "server_ends_with_client", "serve_values", "work"]

_LOOK_EVERY = 2.0
"""Seconds between two looks of a server at its client."""
_LISTENS = f"({Server.accepter.__name__})"
"""What is in the name of a server's thread that waits for connections; each connection has one more."""


def serve_values() -> SyncManager:
    """Return what `multiprocessing.Manager` does: its server is a copy of this process."""
    manager = SyncManager(ctx=multiprocessing.get_context())
    manager.start(_serve_while_asked, (os.getpid(), started_at(psutil.Process())))
    return manager


def _serve_while_asked(client: int, started: float) -> None:
    """Have a server end when its client has, and the workers that ended their lines without it."""

    def watch() -> None:
        own.add(threading.current_thread())
        while is_alive(client, started) or any(
            one not in own and _LISTENS not in one.name for one in threading.enumerate()
        ):
            time.sleep(_LOOK_EVERY)
        os._exit(0)

    own = set(threading.enumerate())
    threading.Thread(target=watch, name="pf-mlflow-client", daemon=True).start()


def server_ends_with_client() -> None:
    """Have it so for all batches of this process, where no name is pickled: the package may be a flow's own copy."""
    if multiprocessing.get_start_method() == "fork":
        pool.Manager = serve_values


def manage(*words: Any, **named: Any) -> None:
    """Start workers and look after them: promptflow's process manager."""
    _leave_signals_to_client()
    end_with_client()
    _process_manager.create_spawned_fork_process_manager(*words, **named)


def work(*words: Any, **named: Any) -> None:
    """Execute lines: a worker."""
    _leave_signals_to_client()
    end_with_client()
    pool._process_wrapper(*words, **named)


def _leave_signals_to_client() -> None:
    """Hear no Ctrl-C and no closed terminal, which all of a group hear: the client ends the batch in order."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
