"""Databases as stores: where an SQLite file is, and whether a database is MLflow's and of this one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import without_password

__all__ = ["check_database", "sqlite_path"]

_SQL = re.compile(r"(postgresql|mysql|sqlite|mssql)(\+\w+)?:")
"""Addresses of databases that MLflow takes."""
_MLFLOWS = {"experiments", "runs"}
"""Tables that every MLflow has made first."""


def sqlite_path(tracking_uri: str) -> Path | None:
    """Return the file of an SQLite store, `None` for any other store."""
    database = make_url(tracking_uri).database if tracking_uri.startswith("sqlite:") else None
    return Path(database).absolute() if database and database != ":memory:" else None


def check_database(tracking_uri: str) -> bool:
    """Return whether a store may be opened for reading; not if it is a database that has no tables yet, or no file.

    MLflow would try for minutes to open what it cannot use, put its tables beside those of others, and change those
    of an older MLflow, which could not use them any more. Changes nothing itself.

    Raises:
        TrackingRefused: a database that cannot be used, or whose tables are not of this MLflow.
        TrackingDown: a database that cannot be reached.
    """
    path = sqlite_path(tracking_uri)
    if not _SQL.match(tracking_uri):
        return True
    if path and not path.exists():
        return False
    from pf_mlflow.tracking.errors import translated_errors  # which loads mlflow

    with translated_errors(without_password(tracking_uri)):
        tables, version = _tables(tracking_uri)
    if tables:
        _check_tables(tracking_uri, tables, version)
    return bool(tables)


def _tables(tracking_uri: str) -> tuple[set[str], str | None]:
    """Return the tables of a database, and the version of MLflow's, `None` if there is none."""
    engine = create_engine(tracking_uri)
    try:
        with engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            if not _MLFLOWS | {"alembic_version"} <= tables:
                return tables, None
            return tables, connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    finally:
        engine.dispose()


def _check_tables(tracking_uri: str, tables: Collection[str], version: str | None) -> None:
    from alembic.script import ScriptDirectory
    from mlflow import __version__ as mlflow_version
    from mlflow.store.db import utils

    uri = without_password(tracking_uri)
    if version is None:
        raise TrackingRefused(
            f"{uri} holds tables that are not MLflow's, as {min(tables)!r}, and is left as it is — let "
            "MLFLOW_TRACKING_URI name another database."
        )
    scripts = ScriptDirectory(str(Path(utils.__file__).parent.parent / "db_migrations"))
    if version in scripts.get_heads():
        return
    if version not in {script.revision for script in scripts.walk_revisions()}:
        raise TrackingRefused(
            f"The tables of {uri} were made by a newer MLflow than {mlflow_version} — let MLFLOW_TRACKING_URI name "
            "another store, or install the MLflow that made this one."
        )
    raise TrackingRefused(
        f"The tables of {uri} were made by an older MLflow than {mlflow_version}, and are left as they are — take a "
        f"copy of it, then run `mlflow db upgrade {shlex.quote(uri)}`, after which no older MLflow can use it."
    )
