"""A new SQLite store is a copy of an empty one that is kept, where that one can be used."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow.store.db.utils
import pytest
from mlflow.exceptions import MlflowException

from pf_mlflow.tracking.connection import open_store


def opened(folder: Path, kept_in: Path, name: str = "mlflow.db") -> Any:
    folder.mkdir(exist_ok=True)
    return open_store(f"sqlite:///{folder / name}", kept_in, makes=True)


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def spoil(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the first store that was made, and `spool` in which an empty one was kept."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "spool").mkdir(mode=0o700)
    opened(folder, folder / "spool")
    return folder


@pytest.fixture
def kept_in(first: Path, tmp_path: Path) -> Path:
    """Return a folder in which an empty store is kept."""
    return Path(shutil.copytree(first / "spool", tmp_path / "spool"))


def test_the_next_store_needs_no_migrations_and_is_its_folders_own(
    kept_in: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = kept_in.glob("empty-store-*.db")
    assert kept.stat().st_mode & 0o777 == 0o600 and rows(kept, "SELECT * FROM experiments") == []
    monkeypatch.setattr(mlflow.store.db.utils, "_upgrade_db", None)
    store = opened(tmp_path / "second", kept_in)
    default = store.get_experiment("0")
    assert default.name == "Default" and default.artifact_location == str(tmp_path / "second" / "mlruns" / "0")
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert rows(tmp_path / "second" / "mlflow.db", schema) == rows(first / "mlflow.db", schema)
    assert store.create_experiment("mine") == "1"
    assert not list(tmp_path.glob("*/.mlflow.db.*"))


@pytest.mark.parametrize("how", ["no database", "another version", "of others"])
def test_what_cannot_be_used_is_not(kept_in: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept,) = kept_in.glob("empty-store-*.db")
    if how == "no database":
        kept.write_bytes(b"not a database, but a text " * 500)
    elif how == "another version":
        spoil(kept, "UPDATE alembic_version SET version_num = 'older'")
    else:  # who could have put something into it
        kept_in.chmod(0o777)
    made: list[bool] = []
    initialize = mlflow.store.db.utils._initialize_tables

    def noted(engine: Any) -> None:
        made.append(True)
        initialize(engine)

    monkeypatch.setattr(mlflow.store.db.utils, "_initialize_tables", noted)
    assert opened(tmp_path / "second", kept_in).get_experiment("0").name == "Default"
    assert made == [True]
    if how != "of others":  # and another one is kept
        assert opened(tmp_path / "third", kept_in).get_experiment("0").name == "Default"
        assert made == [True]


@pytest.mark.slow
def test_a_disk_that_takes_no_copy_makes_no_difference(kept_in: Path, tmp_path: Path) -> None:
    (kept,) = kept_in.glob("empty-store-*.db")
    kept.unlink()
    kept.mkdir()  # nothing can be read from it, or put in its place
    (kept / "x").touch()
    assert opened(tmp_path / "second", kept_in).get_experiment("0").name == "Default"
    with pytest.raises(MlflowException):
        opened(tmp_path / "second", kept_in).get_experiment("7")
