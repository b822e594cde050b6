"""Opens MLflow's store of a tracking URI, whatever folder this process is in."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.tracking._tracking_service.utils import _get_store
from sqlalchemy.engine import make_url

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import store_address, without_password
from pf_mlflow.tracking.address import check_address
from pf_mlflow.tracking.database import check_database, sqlite_path
from pf_mlflow.tracking.empty_store import copy_kept, keep_copy

__all__ = ["open_store"]

log = logging.getLogger(__name__)


def open_store(tracking_uri: str, lock_dir: Path, makes: bool) -> Any:
    """Return MLflow's store, `None` if it is a database without tables that is not to be made.

    Args:
        tracking_uri: Absolute.
        lock_dir: Where processes that open the same database wait for each other, and an empty store is kept.
        makes: Whether a database gets its tables if it has none; else nothing is written.

    Raises:
        TrackingRefused: an address that no store can have, or a database that cannot be made or used.
    """
    check_address(tracking_uri)
    path = sqlite_path(tracking_uri)
    if path and makes:
        _check_writable(path, tracking_uri)
    with _one_process_at_a_time(tracking_uri, lock_dir):
        if not check_database(tracking_uri):
            if not makes:
                return None
            if path:
                _make(path, tracking_uri, lock_dir)
        return _get_store(tracking_uri, _artifact_root(path.parent) if path else None)


def _make(path: Path, tracking_uri: str, kept_in: Path) -> None:
    """Make an SQLite store in a file beside, so that it is there whole or not at all, whoever is killed meanwhile."""
    path = path.resolve()
    draft, was_there = path.with_name(f".{path.name}.{os.getpid()}"), path.exists()
    try:
        draft_uri = make_url(tracking_uri).set(database=str(draft)).render_as_string(hide_password=False)
        is_copy = copy_kept(kept_in, draft)
        _get_store(draft_uri, _artifact_root(path.parent)).engine.dispose()
        if not is_copy:
            keep_copy(kept_in, draft)
        _put(draft, path, was_there)
    finally:
        draft.unlink(missing_ok=True)


def _put(draft: Path, path: Path, was_there: bool) -> None:
    """Give a store its name, but not that of one which somebody else has made meanwhile."""
    if not was_there:
        try:
            os.link(draft, path)
            return
        except FileExistsError:
            return
        except OSError:  # a file system without links
            log.debug("%s is no place for links", path.parent, exc_info=True)
    draft.replace(path)


def _check_writable(path: Path, tracking_uri: str) -> None:
    folder, uri = path.parent, without_password(tracking_uri)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise TrackingRefused(
            f"{uri} cannot be written: {str(folder)!r} is not a folder that you may write to — start in another "
            "folder, or set MLFLOW_TRACKING_URI."
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise TrackingRefused(
            f"{uri} cannot be written: you may only read that file — `chmod u+w {shlex.quote(str(path))}`, or set "
            "MLFLOW_TRACKING_URI."
        )


def _artifact_root(folder: Path) -> str:
    """Return where new experiments of an SQLite file keep artifacts: beside it. MLflow takes the working directory."""
    root = (folder.resolve() / "mlruns").as_posix()
    return root if os.name == "posix" else f"file:///{root}"


def _one_process_at_a_time(tracking_uri: str, lock_dir: Path) -> AbstractContextManager[object]:
    """Let one process at a time make or open a database: two that make it do collide over its tables."""
    if tracking_uri.startswith("http"):
        return nullcontext()
    digest = hashlib.sha256(store_address(tracking_uri).encode()).hexdigest()[:16]
    return FileLock(lock_dir / f"store-{digest}.lock", timeout=120, mode=0o600)
