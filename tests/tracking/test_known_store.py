"""Of a store that nothing speaks against that is said without MLflow; of every other one MLflow is asked."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pf_mlflow.settings import EXPERIMENT_ID
from pf_mlflow.tracking.known_store import is_usable, note_revision
from pf_mlflow.tracking.writer import StoreWriter


@pytest.fixture
def store(tmp_path: Path, fresh_store: Path) -> Path:
    """Return the file of a store with an experiment `jokes`, which MLflow has opened."""
    path = Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))
    (tmp_path / "spool").mkdir()
    StoreWriter(f"sqlite:///{path}", "jokes", tmp_path / "spool").open_experiment()
    note_revision(f"sqlite:///{path}", tmp_path / "spool")
    return path


def usable(store: Path, experiment: str = "jokes") -> bool:
    return is_usable(f"sqlite:///{store}", experiment, store.parent / "spool")


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


def renote(store: Path, **values: object) -> None:
    note = store.parent / "spool" / "known-store.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | values))


def test_a_store_that_mlflow_has_opened_is_usable(store: Path) -> None:
    assert usable(store) and usable(store, "that is to be made")
    assert not usable(store, f"{EXPERIMENT_ID}0") and not usable(store, "x" * 501)
    assert [path.name for path in (store.parent / "spool").glob("known*")] == ["known-store.json"]
    assert not is_usable(f"sqlite:///{store}?timeout=1", "jokes", store.parent / "spool")
    assert not is_usable("http://127.0.0.1:5000", "jokes", store.parent / "spool")


SPOILED: dict[str, Callable[[Path], object]] = {
    "experiment deleted": lambda path: change(path, "UPDATE experiments SET lifecycle_stage = 'deleted'"),
    "older tables": lambda path: change(path, "UPDATE alembic_version SET version_num = 'older'"),
    "no tables": lambda path: path.write_bytes(b""),
    "tables of others": lambda path: change(path, "DROP TABLE alembic_version"),
    "damaged": lambda path: path.write_bytes(b"not a database, but a text " * 200),
    "gone": lambda path: path.unlink(),
    "another MLflow is installed": lambda path: renote(path, mlflow="3.1.0"),
    "the note is damaged": lambda path: (path.parent / "spool" / "known-store.json").write_text("{"),
    "nothing is noted": lambda path: (path.parent / "spool" / "known-store.json").unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_of_any_other_mlflow_is_asked(store: Path, spoil: Callable[[Path], object]) -> None:
    spoil(store)
    assert not usable(store)


def test_a_store_that_somebody_writes_to_for_long_is_not_waited_for(store: Path) -> None:
    with closing(sqlite3.connect(store)) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert not usable(store)


def test_with_workspaces_mlflow_is_asked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    assert not usable(store)


def test_it_is_said_before_mlflow_is_imported() -> None:
    asks = "import json, sys, pf_mlflow.delivery.process; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True, timeout=60)
    modules = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not modules & {"mlflow", "sqlalchemy", "pandas"}
