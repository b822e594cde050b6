"""Databases as stores: where an SQLite file is, and whether MLflow could use a database at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import without_password
from pf_mlflow.tracking.errors import translated_errors
from pf_mlflow.tracking.links import is_database

__all__ = ["check_database", "check_folder", "sqlite_path"]


def sqlite_path(tracking_uri: str) -> Path | None:
    """Return the file of an SQLite store, `None` for any other store."""
    database = make_url(tracking_uri).database if tracking_uri.startswith("sqlite:") else None
    return Path(database).absolute() if database and database != ":memory:" else None


def check_database(tracking_uri: str) -> None:
    """Raise `TrackingError` if a database cannot be used or reached, over which MLflow itself would try for minutes."""
    shown_uri = without_password(tracking_uri)
    with translated_errors(shown_uri):
        if path := sqlite_path(tracking_uri):
            _check_file(path, shown_uri)
        elif is_database(tracking_uri):
            engine = create_engine(tracking_uri)
            engine.connect().close()
            engine.dispose()


def check_folder(path: Path, tracking_uri: str) -> None:
    """Raise `TrackingRefused` if an SQLite file can be neither made nor written where it is to be."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise TrackingRefused(
            f"{without_password(tracking_uri)} cannot be written: {str(path.parent)!r} is not a folder "
            "that you may write to — start in another folder, or set MLFLOW_TRACKING_URI."
        )


def _check_file(path: Path, shown_uri: str) -> None:
    try:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):
            raise TrackingRefused(f"MLflow cannot use {shown_uri}: {error}.") from error
