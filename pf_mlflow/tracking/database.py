"""Databases as stores: where an SQLite file is, and whether a database can be used at all. Needs no mlflow."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import without_password
from pf_mlflow.tracking.links import is_database

__all__ = ["check_database", "sqlite_path"]


def sqlite_path(tracking_uri: str) -> Path | None:
    """Return the file of an SQLite store, `None` for any other store."""
    database = make_url(tracking_uri).database if tracking_uri.startswith("sqlite:") else None
    return Path(database).absolute() if database and database != ":memory:" else None


def check_database(tracking_uri: str) -> None:
    """Raise `TrackingError` if a database cannot be used or reached, over which MLflow itself would try for minutes."""
    if path := sqlite_path(tracking_uri):
        _check_file(path, without_password(tracking_uri))
    elif is_database(tracking_uri):
        from pf_mlflow.tracking.errors import translated_errors  # which loads mlflow

        with translated_errors(without_password(tracking_uri)):
            engine = create_engine(tracking_uri)
            engine.connect().close()
            engine.dispose()


def _check_file(path: Path, shown_uri: str) -> None:
    try:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):
            raise TrackingRefused(f"MLflow cannot use {shown_uri}: {error}.") from error
