"""Opens MLflow's store of a tracking URI, whatever folder this process is in."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.tracking._tracking_service.utils import _get_store

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import without_password
from pf_mlflow.tracking.database import check_database, sqlite_path

__all__ = ["open_store"]


def open_store(tracking_uri: str, lock_dir: Path) -> Any:
    """Return MLflow's store, making it where it is a database that does not exist yet.

    Args:
        tracking_uri: Absolute.
        lock_dir: Where processes that open the same database wait for each other.

    Raises:
        TrackingRefused: an SQLite file that cannot be made or used.
    """
    artifact_root = None
    if path := sqlite_path(tracking_uri):
        _check_folder(path.parent, tracking_uri)
        check_database(tracking_uri)
        artifact_root = _artifact_root(path.parent)
    with _one_process_at_a_time(tracking_uri, lock_dir):
        return _get_store(tracking_uri, artifact_root)


def _check_folder(folder: Path, tracking_uri: str) -> None:
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise TrackingRefused(
            f"{without_password(tracking_uri)} cannot be written: {str(folder)!r} is not a folder that you may write "
            "to — start in another folder, or set MLFLOW_TRACKING_URI."
        )


def _artifact_root(folder: Path) -> str:
    """Return where new experiments of an SQLite file keep artifacts: beside it. MLflow takes the working directory."""
    root = (folder.resolve() / "mlruns").as_posix()
    return root if os.name == "posix" else f"file:///{root}"


def _one_process_at_a_time(tracking_uri: str, lock_dir: Path) -> AbstractContextManager[object]:
    """Let one process at a time make or migrate a database: two that do collide over its tables."""
    if tracking_uri.startswith("http"):
        return nullcontext()
    digest = hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]
    return FileLock(lock_dir / f"store-{digest}.lock", timeout=120)
