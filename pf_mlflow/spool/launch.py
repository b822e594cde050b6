"""Sees to it that one detached delivery process, and never two, works at a batch."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from filelock import FileLock, Timeout

from pf_mlflow.__version__ import __version__
from pf_mlflow.records.batch import Batch
from pf_mlflow.spool.processes import end_process
from pf_mlflow.spool.store import Spool
from pf_mlflow.sqlite_file import is_private

__all__ = [
    "DELIVERY_LOG",
    "HUNG_AFTER",
    "deliver_in_background",
    "delivery_process",
    "end_if_hung",
    "is_held",
    "leave_to_delivery",
    "lock_of",
    "one_evaluation_of",
    "start_delivery",
]

HUNG_AFTER = 300.0
"""Seconds without a sign of life after which a delivery process is taken to hang; one request may take 120."""
_IMPORTED_FROM = Path(__file__).resolve().parents[2]
"""The folder, or the zip, that this package was imported from."""
DELIVERY_LOG = "delivery.log"
_LOG_LIMIT = 1_000_000
"""Bytes after which the log begins anew."""
_LOOK_EVERY = 1.0
"""Seconds for which what was found is taken to be so."""

_WINDOWS_DETACHED = 0x00000208 if os.name == "nt" else 0

log = logging.getLogger(__name__)

_looked: dict[str, float] = {}
_starting: dict[int, Lock] = {}
"""By process, since a fork copies held locks; held from a claim until what was claimed runs, which an end waits for."""

# The package may stand in a flow folder, which must not stay on the path: a file there could shadow a library.
_BOOT = (
    "import sys; sys.path[0] = sys.argv[1]; import pf_mlflow.delivery.process; del sys.path[0]; "
    "sys.exit(pf_mlflow.delivery.process.main(*sys.argv[2:]))"
)


def lock_of(folder: Path, name: str) -> FileLock:
    """Return the lock that whoever writes a batch to MLflow holds; the system frees it when its holder dies."""
    locks = folder / "locks"
    locks.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(locks / f"{name}.lock", mode=0o600)


def one_evaluation_of(folder: Path, batch: Batch) -> AbstractContextManager[object]:
    """Wait until no other evaluation writes to the runs that a batch scores, and let none do so meanwhile."""
    return lock_of(folder, f"scores-{batch.base_uid}") if batch.base_uid else nullcontext()


def is_held(folder: Path, name: str) -> bool:
    """Tell whether a process holds a lock."""
    lock = lock_of(folder, name)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def deliver_in_background(spool: Spool, batch_uid: str) -> None:
    """See to it that a delivery process works at a batch: look, at most once a second, and start one if none does."""
    now = time.monotonic()
    if now - _looked.get(batch_uid, -_LOOK_EVERY) >= _LOOK_EVERY:
        _looked[batch_uid] = now
        leave_to_delivery(spool, batch_uid)


def leave_to_delivery(spool: Spool, batch_uid: str) -> None:
    """See to it that a delivery process works at a batch when this returns, as one that ends has to."""
    if is_held(spool.folder, batch_uid):
        end_if_hung(spool, batch_uid)
        return
    _lasting(_IMPORTED_FROM, spool.folder / "packages")  # takes longest: who ends meanwhile has claimed nothing yet
    with _starting.setdefault(os.getpid(), Lock()):
        if spool.claim_launch(batch_uid, time.monotonic()):
            start_delivery(spool.folder, batch_uid)


def end_if_hung(spool: Spool, batch_uid: str) -> None:
    """Kill the process that holds a batch if it has given no sign of life for long."""
    state = spool.state(batch_uid)
    if state is None or state.beat is None or state.owner_pid is None or state.owner_started is None:
        return
    if time.monotonic() - state.beat > HUNG_AFTER:
        end_process(state.owner_pid, state.owner_started)


def start_delivery(spool_dir: Path, *batch_uid: str) -> None:
    """Start the detached process that delivers a batch, or, if none is named, whatever earlier batches left over."""
    child = delivery_process(spool_dir, *batch_uid, stdin=subprocess.DEVNULL)
    child.returncode = 0  # it outlives its starter on purpose: no "still running" warning at exit


def delivery_process(spool_dir: Path, *words: str, **streams: Any) -> subprocess.Popen[str]:
    """Return a new detached `pf_mlflow.delivery.process`; what it says goes into the log unless `streams` say."""
    imported_from = _lasting(_IMPORTED_FROM, spool_dir / "packages")
    path = spool_dir / DELIVERY_LOG
    full = path.exists() and path.stat().st_size > _LOG_LIMIT
    with open(path, "wb" if full else "ab", opener=partial(os.open, mode=0o600)) as output:
        return subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(imported_from), str(spool_dir), *words],
            cwd=spool_dir,
            env=_environment(),
            start_new_session=True,
            creationflags=_WINDOWS_DETACHED,
            text=True,
            **{"stdout": output, "stderr": output, **streams},
        )


def _lasting(imported_from: Path, kept: Path) -> Path:
    """Return where the package stays: a flow with `additional_includes` runs in a copy that goes with the batch."""
    if Path(tempfile.gettempdir()).resolve() not in imported_from.parents:
        return imported_from
    if not all(is_private(folder) for folder in (kept, kept.parent) if folder.is_dir()):
        log.warning("%s: others can write there, so no copy of this package is kept or used", kept)
        return imported_from
    is_zip = imported_from.suffix == ".zip"
    package = imported_from if is_zip else imported_from / "pf_mlflow"
    with suppress(OSError):  # no room: it may end before the flow does
        sources = [package] if package.is_file() else sorted(package.rglob("*.py"))
        if sources:
            content = b"".join(str(path.relative_to(imported_from)).encode() + path.read_bytes() for path in sources)
            folder = kept / f"{__version__}-{hashlib.sha256(content).hexdigest()[:16]}"
            copy = _copied(package, folder) / package.name
        else:  # it went already: what an earlier process of this version kept
            earlier = kept.glob(f"{__version__}-*/{package.name}")
            copy = max(earlier, key=lambda path: path.stat().st_mtime, default=package)
        return copy if is_zip else copy.parent
    return imported_from


def _copied(package: Path, folder: Path) -> Path:
    """Return a folder that holds a copy of a package, a folder or a zip; it is made if it is not there yet."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        if package.is_file():
            shutil.copy(package, draft)
        else:
            shutil.copytree(package, draft / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        with suppress(OSError):  # another process was faster
            draft.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _environment() -> dict[str, str]:
    """Leave out what promptflow sets for its own process: MLflow would send traces to promptflow's collector."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PF_TRACE"))}
