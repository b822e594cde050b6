"""A database of another MLflow, or of somebody else, is left as it is; only one without tables is made into a store."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pf_mlflow.doctor.store import _examined
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.writer import StoreWriter

OLDER = "UPDATE alembic_version SET version_num = 'c3d9e7f1a2b4'"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (f"{OLDER}; DROP TABLE spans", "mlflow db upgrade sqlite:////"),  # MLflow changes such a file unasked
        (OLDER, "mlflow db upgrade sqlite:////"),
        ("UPDATE alembic_version SET version_num = 'ffffffffffff'", "made by a newer MLflow"),
        ("DROP TABLE experiments", "holds tables that are not MLflow's, as 'alembic_version', and is left as it is"),
    ],
)
def test_tables_of_another_mlflow_are_refused_and_left_as_they_are(
    fresh_store: Path, tmp_path: Path, spoil: str, says: str
) -> None:
    path = Path(shutil.copy(fresh_store, tmp_path))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(spoil)
    are_left_alone(path, says)


def test_somebody_s_own_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as db:
        db.executescript("CREATE TABLE metrics (name TEXT); CREATE TABLE runs (name TEXT)")
    are_left_alone(tmp_path / "own.db", "holds tables that are not MLflow's, as 'metrics'")


def are_left_alone(path: Path, says: str) -> None:
    before, uri = path.read_bytes(), f"sqlite:///{path}"
    for store in (StoreReader(uri, "x", path.parent), StoreWriter(uri, "x", path.parent)):
        with pytest.raises(TrackingRefused) as refused:
            store.open_experiment()
        assert says in str(refused.value) and uri in str(refused.value)
    (told,) = _examined(uri, "x", path.parent)  # the doctor tells the same
    assert told.level == "error" and said(f"{told.message} — {told.remedy}.") == said(str(refused.value))
    assert path.read_bytes() == before and not [*path.parent.glob(".*"), *path.parent.glob("*-wal")]


def said(sentence: str) -> str:
    return sentence.replace("`", "")


def test_a_file_that_is_damaged_is_no_outage(fresh_store: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(fresh_store, tmp_path))
    content = bytearray(path.read_bytes())
    content[100:4096] = b"x" * (4096 - 100)
    path.write_bytes(content)
    with pytest.raises(TrackingRefused, match="MLflow cannot use sqlite:///.*: database disk image is malformed"):
        StoreWriter(f"sqlite:///{path}", "x", tmp_path).open_experiment()


@pytest.mark.parametrize("is_there", [False, True])
def test_only_who_writes_makes_a_store(tmp_path: Path, is_there: bool) -> None:
    path = tmp_path / "mlflow.db"
    if is_there:
        path.touch()
    for reader in (
        StoreReader(f"sqlite:///{path}", "x", tmp_path),
        StoreWriter(f"sqlite:///{path}", "x", tmp_path, True),
    ):
        reader.open_experiment()
        assert reader.experiment_id == "" and list(reader.batches_named("b1")) == []
        assert path.stat().st_size == 0 if is_there else not path.exists()
    if is_there:  # to make the tables takes seconds
        StoreWriter(f"sqlite:///{path}", "x", tmp_path).open_experiment()
        locations = {one.artifact_location for one in MlflowClient(f"sqlite:///{path}").search_experiments()}
        assert locations == {f"{tmp_path}/mlruns/{number}" for number in (0, 1)}
        assert not [*tmp_path.glob(".mlflow*")]
