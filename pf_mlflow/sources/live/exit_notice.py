"""Writes for the user of a plain `pf` command, once at its end, where the runs went or what keeps them."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import psutil

from pf_mlflow.errors import BadInput
from pf_mlflow.settings import read_settings
from pf_mlflow.spool.entries import BatchState
from pf_mlflow.spool.launch import leave_to_delivery
from pf_mlflow.spool.processes import started_at
from pf_mlflow.spool.store import Spool

__all__ = ["notify_at_exit", "silence"]

_registered = False
_ROOM = 64 * 1024
"""Bytes without which SQLite cannot write a line."""


def notify_at_exit() -> None:
    """When this process ends, write to stderr where its batches are."""
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_notify)


def silence() -> None:
    """Say nothing at the end: a command of ours does so itself."""
    global _registered
    _registered = True


def _notify() -> None:
    try:
        settings = read_settings()
        for sentence in _sentences(Spool(settings.spool_dir)):
            why = f" ({settings.unwritable_folder} cannot be written)" if settings.unwritable_folder else ""
            sys.stderr.write(f"pf-mlflow: {sentence}{why}\n")
    except (BadInput, OSError, sqlite3.Error) as error:
        sys.stderr.write(f"pf-mlflow: nothing is known of this batch's runs in MLflow: {error}\n")


def _sentences(spool: Spool) -> list[str]:
    if spool.folder.is_dir() and (trouble := _spool_trouble(spool.folder)):
        return [f"the spool {spool.folder} {trouble}; mend it, then bring the batch in with `pf-mlflow sync NAME`."]
    if not (spool.folder / spool.FILE).exists():
        return []
    me = psutil.Process()
    states = spool.batches_of_client(me.pid, started_at(me))
    for state in states:
        if not state.closed and not state.trouble:
            leave_to_delivery(spool, state.batch.uid)  # the process of the batch may have been killed
    return [_state_of(spool, state) for state in states]


def _spool_trouble(folder: Path) -> str | None:
    if not os.access(folder, os.W_OK):
        return "cannot be written"
    return "is on a full disk" if shutil.disk_usage(folder).free < _ROOM else None


def _state_of(spool: Spool, state: BatchState) -> str:
    """Return one sentence on a batch: its trouble, or where its runs are."""
    batch = state.batch
    name = f"batch {batch.name}" if batch.name else "single runs"
    if state.trouble:
        return f"{name}: {state.trouble}"
    waiting = spool.waiting(batch.uid)
    going_on = f" ({waiting} lines are on their way)" if waiting else ""
    verb = "is in" if state.experiment_id else "goes to"
    return f"{name} {verb} MLflow at {batch.tracking_uri}, experiment {batch.experiment!r}{going_on}."
