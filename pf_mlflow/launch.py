"""Starts the one detached delivery process of a batch."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil

import pf_mlflow
from pf_mlflow.spool import Spool

__all__ = ["deliver_in_background", "is_alive"]

_LOG = "delivery.log"
_LOG_LIMIT = 1_000_000
"""Bytes after which the log begins anew."""
_LOOK_EVERY = 1.0
"""Seconds for which a process found alive is taken to be so."""
_RESTART_AFTER = 30.0
"""Seconds between two starts: a delivery process that ends at once would do so at every line."""

_WINDOWS_DETACHED = 0x00000208 if os.name == "nt" else 0

_looked: dict[str, float] = {}

# The package may stand in a flow folder, which must not stay on the path: a file there could shadow a library.
_BOOT = (
    "import sys; sys.path[0] = sys.argv[1]; import pf_mlflow.delivery; del sys.path[0]; "
    "sys.exit(pf_mlflow.delivery.main(*sys.argv[2:]))"
)


def deliver_in_background(spool: Spool, batch_uid: str) -> None:
    """See to it that a delivery process works at a batch: look, and start one if none is alive."""
    if time.monotonic() - _looked.get(batch_uid, -_LOOK_EVERY) < _LOOK_EVERY:
        return
    _looked[batch_uid] = time.monotonic()
    row = spool.state(batch_uid)
    if row is None or not _wanted(row):
        return
    with spool.claim() as db:
        if _wanted(db.execute("SELECT * FROM batch WHERE uid = ?", (batch_uid,)).fetchone()):
            process = _start(spool.folder, batch_uid)
            spool.set_owner(db, batch_uid, process.pid, process.create_time())


def _wanted(batch: sqlite3.Row) -> bool:
    if batch["owner_pid"] is None:
        return True
    if is_alive(batch["owner_pid"], batch["owner_started"]):
        return False
    return bool(time.time() - batch["owner_started"] > _RESTART_AFTER)


def is_alive(pid: int, started: float) -> bool:
    """Tell whether a process still runs, and is not a later one of the same number."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # gone, or its number is another user's by now
        return False


def _start(spool_dir: Path, batch_uid: str) -> psutil.Process:
    package_parent = str(Path(pf_mlflow.__file__).resolve().parent.parent)
    path = spool_dir / _LOG
    full = path.exists() and path.stat().st_size > _LOG_LIMIT
    with path.open("wb" if full else "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", _BOOT, package_parent, str(spool_dir), batch_uid],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=spool_dir,
            env=_environment(),
            start_new_session=True,
            creationflags=_WINDOWS_DETACHED,
        )
    child.returncode = 0  # it outlives its starter on purpose: no "still running" warning at exit
    return psutil.Process(child.pid)


def _environment() -> dict[str, str]:
    """Leave out what promptflow sets for its own process: MLflow would send traces to promptflow's collector."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PF_TRACE"))}
