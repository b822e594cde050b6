"""Rows written directly are those that MLflow's own calls write."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pytest
from builders import batch, line_record
from mlflow import MlflowClient
from servers import postgres

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.records.line import FAILED
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.tracking.bulk_rows import TESTED_VERSIONS, BulkStore
from pf_mlflow.tracking.run_payload import RunPayload
from pf_mlflow.tracking.writer import StoreWriter

ONE = batch(uid="rows")
VALUES = RunPayload(
    "FAILED",
    100_000,
    101_500,
    params={"input_topic": "tea", "output": "x" * 6000},
    metrics={"total_tokens": 18.0, "duration": 0.25, "zero": 0.0},
    tags={"response_model": "fake-1", "promptflow.error": "ValueError: no"},
)


def store_at(uri: str, folder: Path) -> StoreWriter:
    store = StoreWriter(uri, "joke-flow", folder)
    store.open_experiment()
    return store


@pytest.fixture
def twins(fresh_store: Path, tmp_path: Path) -> tuple[StoreWriter, StoreWriter]:
    """Two stores alike."""
    stores = []
    for name in ("calls", "rows"):
        (tmp_path / name).mkdir()
        shutil.copy(fresh_store, tmp_path / name)
        stores.append(store_at(f"sqlite:///{tmp_path}/{name}/mlflow.db", tmp_path))
    return stores[0], stores[1]


def written(store: StoreWriter, twins: tuple[StoreWriter, StoreWriter]) -> AbstractContextManager[StoreWriter]:
    """Return what writes the second of the stores in one transaction, and the first by MLflow's own calls."""
    return store.transaction() if store is twins[1] else nullcontext(store)


def rows_of(store: StoreWriter, ids: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    path = store.tracking_uri.removeprefix("sqlite:///")
    tables: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(path)) as db:
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            found = db.execute(f"SELECT * FROM {table}").fetchall()
            tables[table] = sorted((tuple(_named(value, ids, path) for value in row) for row in found), key=str)
        columns = "source_type, source_id, destination_type, destination_id, step"  # all but a random id
        outputs = db.execute(f"SELECT {columns} FROM inputs").fetchall()
        tables["inputs"] = sorted((tuple(_named(value, ids, path) for value in row) for row in outputs), key=str)
    return tables


def _named(value: Any, ids: dict[str, str], path: str) -> Any:
    if not isinstance(value, str):
        return value
    for run_id, name in ids.items():
        value = value.replace(run_id, name)
    return value.replace(str(Path(path).parent), "…")


def test_the_installed_mlflow_is_one_whose_rows_are_compared_here(twins: tuple[StoreWriter, StoreWriter]) -> None:
    assert mlflow.__version__ in TESTED_VERSIONS
    with twins[1].transaction() as runs:
        assert isinstance(runs._store, BulkStore)


def of_another_version(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pf_mlflow.tracking.bulk_rows.TESTED_VERSIONS", ("3.0.0",))


def with_another_column(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE metrics ADD COLUMN unit VARCHAR(50)")


@pytest.mark.parametrize("changed", [of_another_version, with_another_column])
def test_tables_that_nobody_compared_are_left_to_mlflow_s_own_calls(
    twins: tuple[StoreWriter, StoreWriter], monkeypatch: pytest.MonkeyPatch, changed: Callable[..., None]
) -> None:
    changed(twins[1].tracking_uri.removeprefix("sqlite:///"), monkeypatch)
    with twins[1].transaction() as runs:
        assert not isinstance(runs._store, BulkStore)
        parent = runs.create_parent(ONE, "A batch", 99.0)
        child = runs.create_child(ONE, 7, parent, 100.0)
        runs.complete(child, VALUES)
        with pytest.raises(TrackingRefused):
            runs.log(child, RunPayload("", 0, 0, params={"a/../b": "x"}, tags={"late": "tag"}))
    run = MlflowClient(twins[1].tracking_uri).get_run(child)
    assert (run.info.status, run.data.params, run.data.metrics) == ("FAILED", VALUES.params, VALUES.metrics)
    assert (
        run.data.tags.items() >= {**VALUES.tags, "mlflow.parentRunId": parent}.items() and "late" not in run.data.tags
    )


@pytest.mark.parametrize("opened", ["in the same transaction", "before"])
def test_they_are_the_same_rows(twins: tuple[StoreWriter, StoreWriter], opened: str) -> None:
    tables = []
    for store in twins:
        store.use_model("joke-flow")
        parent = store.create_parent(ONE, "A batch", 99.0)
        child = store.create_child(ONE, 7, parent, 100.0) if opened == "before" else ""
        with written(store, twins) as runs:
            child = child or runs.create_child(ONE, 7, parent, 100.0)
            runs.complete(child, VALUES)
            left = runs.create_child(ONE, 8, parent, 101.0)
        tables.append(rows_of(store, {parent: "parent", child: "child", left: "left", store._model_id: "model"}))
    assert tables[0] == tables[1] and len(tables[0]["runs"]) == 3
    assert [row[1] for row in tables[0]["inputs"]] == ["child", "left"]
    assert len(tables[0]["metrics"]) == len(tables[0]["latest_metrics"]) == 3


def test_values_that_are_there_already_stay_or_are_overwritten_as_ever(twins: tuple[StoreWriter, StoreWriter]) -> None:
    tables = []
    for store in twins:
        child = store.create_single(ONE, 7, 100.0)
        store.log(child, VALUES)
        again = RunPayload("FINISHED", 0, 101_500, dict(VALUES.params), dict(VALUES.metrics), {"response_model": "new"})
        with written(store, twins) as runs:
            runs.complete(child, again)
        tables.append(rows_of(store, {child: "child"}))
    assert tables[0] == tables[1]


@pytest.mark.parametrize("later", [{"bleu/v1": 0.25}, {"bleu/v1": float("nan")}, {"bleu/v1": 0.75, "f1/v1": 1.0}])
@pytest.mark.parametrize("at", [101_400, 101_500, 101_600])
def test_of_several_values_of_a_metric_the_same_is_the_latest(
    twins: tuple[StoreWriter, StoreWriter], later: dict[str, float], at: int
) -> None:
    tables = []
    for store in twins:
        child = store.create_single(ONE, 7, 100.0)
        store.log(child, RunPayload("", 0, 101_500, metrics={"bleu/v1": 0.5, "gone/v1": float("nan")}))
        with written(store, twins) as runs:
            runs.log(child, RunPayload("", 0, at, metrics=later))
        tables.append(rows_of(store, {child: "child"}))
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "values",
    [
        {"params": {"a/../b": "x"}},
        {"tags": {"k" * 251: "x"}},
        {"metrics": {"": 1.0}},
    ],
)
def test_what_mlflow_refuses_is_refused(twins: tuple[StoreWriter, StoreWriter], values: dict[str, Any]) -> None:
    said = []
    for store in twins:
        child = store.create_single(ONE, 7, 100.0)
        with written(store, twins) as runs:
            with pytest.raises(TrackingRefused) as refusal:
                runs.complete(child, RunPayload("FINISHED", 0, 1, **values))
        said.append(str(refusal.value).replace(store.shown_uri, ""))
        run = MlflowClient(store.tracking_uri).get_run(child)
        assert run.info.status == "RUNNING" and not (run.data.params or run.data.metrics)
    assert said[0] == said[1]


def test_a_run_or_an_experiment_that_was_deleted_is_refused(twins: tuple[StoreWriter, StoreWriter]) -> None:
    store = twins[1]
    child = store.create_single(ONE, 7, 100.0)
    client = MlflowClient(store.tracking_uri)
    client.delete_run(child)
    with store.transaction() as runs, pytest.raises(TrackingRefused):
        runs.complete(child, VALUES)
    client.delete_experiment(store.experiment_id)
    with store.transaction() as runs, pytest.raises(TrackingRefused):
        runs.create_single(ONE, 8, 100.0)


def test_long_texts_are_artifacts(twins: tuple[StoreWriter, StoreWriter], tmp_path: Path) -> None:
    store = twins[1]
    writer = BatchWriter(store, LocalSource(ONE))
    writer.open_parent()
    long = line_record(
        batch_uid="rows", line_number=7, outputs={"joke": "y" * 7000}, spans=(), status=FAILED, error="z"
    )
    with writer.transaction() as inside:
        written = writer.write(7, long.start, long, inside)
    client = MlflowClient(store.tracking_uri)
    run = client.get_run(written.run_id)
    assert "[cut: 7000 characters" in run.data.params["output"]
    (text,) = client.list_artifacts(written.run_id, "long_values")
    local = client.download_artifacts(written.run_id, text.path, str(tmp_path))
    assert Path(local).read_text("utf-8") == "y" * 7000


@pytest.fixture(scope="module")
def elephant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreWriter]:
    folder = tmp_path_factory.mktemp("elephant")
    with postgres() as uri:
        yield store_at(uri, folder)


def test_in_postgresql(elephant: StoreWriter) -> None:
    shown = []
    for number, together in enumerate((nullcontext, StoreWriter.transaction)):
        parent = elephant.create_parent(batch(uid=f"pg{number}"), "A batch", 99.0)
        with together(elephant) as runs:
            child = runs.create_child(batch(uid=f"pg{number}"), 7, parent, 100.0)
            runs.complete(child, VALUES)
        with together(elephant) as runs:
            runs.complete(child, RunPayload("FINISHED", 0, 101_500, tags={"response_model": "new"}))
        run = MlflowClient(elephant.tracking_uri).get_run(child)
        tags = {
            key: tag for key, tag in run.data.tags.items() if key not in ("mlflow.parentRunId", "promptflow.batch_uid")
        }
        shown.append((run.info.status, run.info.end_time, run.data.params, run.data.metrics, tags))
    assert shown[0] == shown[1] and shown[0][4]["response_model"] == "new"
