"""Which MLflow made the tables of an SQLite store: this one refuses others, or changes them when it opens them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from alembic.script import ScriptDirectory
from mlflow import __version__ as mlflow_version
from mlflow.store.db import utils

__all__ = ["SchemaVersion"]


@dataclass(frozen=True)
class SchemaVersion:
    """How the tables of a store stand to this MLflow; not current and not newer is older."""

    mlflow_version: str
    """The installed one."""
    is_current: bool
    is_newer: bool = False
    migrates_itself: bool = False
    """Whether MLflow changes older tables as soon as it opens them; else it refuses them."""

    @classmethod
    def of(cls, path: Path) -> SchemaVersion:
        """Read the version of an SQLite file, without changing it."""
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            has_version = "alembic_version" in tables
            (version,) = db.execute("SELECT version_num FROM alembic_version").fetchone() if has_version else ("",)
        scripts = ScriptDirectory(str(Path(utils.__file__).parent.parent / "db_migrations"))
        if not version or version in scripts.get_heads():
            return cls(mlflow_version, is_current=True)
        is_newer = version not in {script.revision for script in scripts.walk_revisions()}
        migrates_itself = not is_newer and not set(utils.Base.metadata.tables) <= tables
        return cls(mlflow_version, False, is_newer, migrates_itself)
