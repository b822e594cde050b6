"""Checks of the spool: the folder, what is left over in it, and the processes that deliver from it."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pf_mlflow.doctor.check_result import ERROR, OK, WARNING, CheckResult
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.records.batch import Batch, command_on
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.spool.launch import HUNG_AFTER, is_held
from pf_mlflow.spool.processes import is_alive
from pf_mlflow.spool.store import Spool
from pf_mlflow.sqlite_file import rehearse_write

__all__ = ["check_delivery", "check_leftovers", "check_spool"]

_FULL = 0.8
_NO_ROOM = 2**20


def _file(setup: Setup) -> Path:
    return setup.settings.spool_dir / Spool.FILE


def check_spool(setup: Setup) -> Iterator[CheckResult]:
    """Tell whether the spool can be written to, and how full it is."""
    folder, file = setup.settings.spool_dir, _file(setup)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        message = f"the spool {folder} cannot be used: you may not write to {nearest}"
        yield CheckResult(ERROR, message, "`export PF_MLFLOW_SPOOL_DIR=$HOME/pf-mlflow-spool`, or any folder of yours")
    elif shutil.disk_usage(nearest).free < _NO_ROOM:
        yield CheckResult(ERROR, f"the disk of the spool {folder} is full", "free it, or set PF_MLFLOW_SPOOL_DIR")
    elif not file.exists():
        yield CheckResult(OK, f"{folder}, which the first batch makes")
    else:
        yield _state_of(file, setup.settings.spool_limit * 2**20)


def _state_of(file: Path, limit: int) -> CheckResult:
    try:
        rehearse_write(file)
        used = Spool(file.parent).used()
    except sqlite3.Error as error:
        moved = f"{shlex.quote(str(file))} {shlex.quote(f'{file}.broken')}"
        remedy = f"`mv {moved}`, then `pf-mlflow sync --all` takes what it held from promptflow's folder"
        return CheckResult(ERROR, f"{file} cannot be used: {error}", remedy)
    size = f"{used / 2**20:,.1f} of {limit / 2**20:,.0f} MiB"
    if used < _FULL * limit:
        return CheckResult(OK, f"{file.parent}, {size}")
    remedy = f"deliver what is left over by `pf-mlflow sync`, or `export PF_MLFLOW_SPOOL_LIMIT={2 * limit // 2**20}`"
    return CheckResult(ERROR if used >= limit else WARNING, f"the spool {file.parent} is nearly full, {size}", remedy)


def check_leftovers(setup: Setup) -> Iterator[CheckResult]:
    """Tell of batches that are over and that MLflow does not fully have."""
    if not _file(setup).exists():
        return
    spool = Spool(setup.settings.spool_dir)
    open_ones = [one for one in spool.leftovers(math.inf) if not is_held(spool.folder, one.uid)]
    left = [one for one in open_ones if not _is_running(spool, one)]
    for batch in left:
        state = spool.state(batch.uid)
        why = f": {state.trouble}" if state and state.trouble else ""
        message = f"{spool.waiting(batch.uid)} lines of {_name(batch)} wait for {batch.tracking_uri}{why}"
        yield CheckResult(WARNING, message.rstrip("."), f"`{_sync(batch)}`")
    refused = spool.refusals()
    for name, count, why in refused:
        message = f"MLflow did not take {count} lines of batch {name}: {why}"
        yield CheckResult(WARNING, message.rstrip("."), f"mend what it says, then `{command_on('sync', name)}`")
    if not (left or refused):
        yield CheckResult(OK, "none")


def _is_running(spool: Spool, batch: Batch) -> bool:
    return LocalSource.of(batch, spool).is_running()


def _name(batch: Batch) -> str:
    return f"batch {batch.name}" if batch.name else "single runs"


def _sync(batch: Batch) -> str:
    return command_on("sync", batch.name)


def check_delivery(setup: Setup) -> Iterator[CheckResult]:
    """Tell of the processes that deliver batches now, and of those that do not get on."""
    if not _file(setup).exists():
        return
    spool = Spool(setup.settings.spool_dir)
    found = [result for batch in spool.leftovers(math.inf) for result in _deliverer(spool, batch)]
    yield from found or [CheckResult(OK, "none is needed now")]


def _deliverer(spool: Spool, batch: Batch) -> Iterator[CheckResult]:
    running = _is_running(spool, batch)
    waiting = f"{spool.waiting(batch.uid)} lines wait"
    state = spool.state(batch.uid)
    if not is_held(spool.folder, batch.uid):
        if running:
            yield CheckResult(OK, f"{_name(batch)} runs; its next line starts a delivery process; {waiting}")
        return
    if state is None or state.beat is None or not is_alive(state.owner_pid or 0, state.owner_started or 0.0):
        yield CheckResult(OK, f"a process is at {_name(batch)}, perhaps `pf-mlflow sync`; {waiting}")
        return
    pid, silent = state.owner_pid, time.monotonic() - state.beat
    if silent > HUNG_AFTER:
        message = (
            f"the process {pid} that delivers {_name(batch)} has shown no sign of life for {silent:.0f} s; {waiting}"
        )
        restart = f"`kill -9 {pid}`; the next line of the batch starts another"
        yield CheckResult(ERROR, message, restart if running else f"`{_sync(batch)}`, which ends it and does its work")
    elif psutil.Process(pid).status() == psutil.STATUS_STOPPED:
        message = f"the process {pid} that delivers {_name(batch)} was stopped; {waiting}"
        yield CheckResult(ERROR, message, f"`kill -CONT {pid}`")
    else:
        message = f"process {pid} delivers {_name(batch)}, {waiting}"
        if state.trouble:
            remedy = "see the check mlflow; it goes on by itself then"
            yield CheckResult(WARNING, f"{message}: {state.trouble}".rstrip("."), remedy)
        else:
            yield CheckResult(OK, message)
