"""An SQLite store without experiments, kept so that the next one is a copy: MLflow's migrations take seconds each time.

It lies in a folder that nobody else can write to, bears MLflow's version, and is only copied while it is whole and its
tables are those of the installed MLflow.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow import __version__ as mlflow_version

from pf_mlflow.errors import PfMlflowError
from pf_mlflow.sqlite_file import is_private
from pf_mlflow.tracking.database import check_database

__all__ = ["copy_kept", "keep_copy"]

_OF_MLFLOW = {"alembic_version", "workspaces"}
"""Tables in which MLflow's migrations leave rows of their own."""

log = logging.getLogger(__name__)


def _kept(folder: Path) -> Path:
    return folder / f"empty-store-{mlflow_version}.db"


def copy_kept(folder: Path, draft: Path) -> bool:
    """Make a new store of the kept one, if there is one that can be used, and return whether there is."""
    if not _kept(folder).is_file() or not is_private(folder):
        return False
    try:
        shutil.copyfile(_kept(folder), draft)
        with closing(sqlite3.connect(draft)) as db:
            is_whole = db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        if is_whole and check_database(f"sqlite:///{draft}"):
            return True
    except (OSError, sqlite3.Error, PfMlflowError):
        log.info("%s cannot be used; another is kept", _kept(folder), exc_info=True)
    draft.unlink(missing_ok=True)
    return False


def keep_copy(folder: Path, store: Path) -> None:
    """Keep a store that was just made, without its experiments, unless there is more in it than MLflow puts there."""
    draft = folder / f"empty-store-{os.getpid()}.draft"
    try:
        if not is_private(folder):
            return
        shutil.copyfile(store, draft)
        draft.chmod(0o600)
        with closing(sqlite3.connect(draft)) as db, db:
            db.execute("DELETE FROM experiments")
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            filled = {name for name in tables if db.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()}
        if filled <= _OF_MLFLOW:
            draft.replace(_kept(folder))
    except (OSError, sqlite3.Error):
        log.info("no empty store is kept in %s", folder, exc_info=True)
    finally:
        draft.unlink(missing_ok=True)
