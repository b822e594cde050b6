"""Views of an experiment and descriptions of batches, as MLflow keeps them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import mlflow
import pytest
from builders import batch, line_record, llm_node
from machine import ROOT
from mlflow import MlflowClient

from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.records.line import FAILED
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.tracking.writer import StoreWriter

VIEW = "mlflow.sharedViewState.pf_mlflow_"


@pytest.fixture
def store(fresh_store: Path, tmp_path: Path) -> StoreWriter:
    shutil.copy(fresh_store, tmp_path)
    store = StoreWriter(f"sqlite:///{tmp_path}/mlflow.db", "views", tmp_path)
    store.open_experiment()
    return store


def write(store: StoreWriter, uid: str, lines: int = 2, nodes: tuple[str, ...] = ("joke",)) -> str:
    """Write a batch whose last line failed, and return its parent's id."""
    writer = BatchWriter(store, LocalSource(batch(uid=uid, name=uid, client_pid=0, promptflow_home=None)))
    writer.read_existing()
    parent = writer.open_parent()
    for n in range(lines):
        status = {"status": FAILED, "error": "my secret", "error_type": "ValueError"} if n == lines - 1 else {}
        spans = [part for node in nodes for part in llm_node(node)]
        record = line_record(*spans, batch_uid=uid, line_number=n, **status)
        writer.note(writer.write(n, record.start, record))
    writer.close_parent()
    assert parent
    return parent


def tags(store: StoreWriter) -> dict[str, str]:
    return dict(MlflowClient(store.tracking_uri).get_experiment(store.experiment_id).tags)


def state(store: StoreWriter, key: str) -> dict[str, object]:
    return dict(json.loads(json.loads(tags(store)[VIEW + key])["state"]))


def test_views_find_batches_and_the_newest_one_s_lines(store: StoreWriter) -> None:
    parents = [write(store, "b1"), write(store, "b2")]
    client = MlflowClient(store.tracking_uri)
    batches, lines = (
        client.search_runs([store.experiment_id], str(state(store, key)["searchFilter"]))
        for key in ("batches", "lines")
    )
    assert {run.info.run_id for run in batches} == set(parents)
    assert [run.data.tags["mlflow.parentRunId"] for run in lines] == [parents[1]] * 2
    columns = ["params.`input_topic`", "params.`output`", "metrics.`duration`", "metrics.`total_tokens`"]
    assert state(store, "lines")["columnOrder"] == columns


def test_a_view_that_a_user_changed_or_deleted_stays_so(store: StoreWriter) -> None:
    write(store, "b1")
    client = MlflowClient(store.tracking_uri)
    client.set_experiment_tag(store.experiment_id, f"{VIEW}batches", "mine")
    client.delete_experiment_tag(store.experiment_id, f"{VIEW}lines")
    write(store, "b2")
    assert tags(store)[f"{VIEW}batches"] == "mine" and f"{VIEW}lines" not in tags(store)


def test_a_batch_is_described_without_its_lines_texts_until_a_user_does(store: StoreWriter) -> None:
    parent, client = write(store, "b1", lines=3), MlflowClient(store.tracking_uri)
    note = client.get_run(parent).data.tags["mlflow.note.content"]
    assert "2 lines completed, 1 failed (ValueError)" in note and "my secret" not in note
    assert "viewStateShareKey=pf_mlflow_lines" in note and "`pf-mlflow show b1`" in note
    failed = client.search_runs([store.experiment_id], "attributes.status = 'FAILED'")[0].info.run_id
    assert f"[failed line 2](#/experiments/{store.experiment_id}/runs/{failed})" in note
    client.set_tag(parent, "mlflow.note.content", "mine")
    write(store, "b1", lines=4)
    assert client.get_run(parent).data.tags["mlflow.note.content"] == "mine"


@pytest.mark.parametrize("nodes", [("joke",), ("rewrite", "answer")], ids=["one node", "two nodes"])
def test_the_snippet_and_recipes_of_docs_find_lines_of_one_and_of_several_nodes(
    store: StoreWriter, nodes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, "my_batch", lines=3, nodes=nodes)
    page = (ROOT / "docs" / "look.md").read_text("utf-8")
    snippet = next(one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "search_runs" in one)
    before, found = mlflow.get_tracking_uri(), dict[str, object]()
    monkeypatch.chdir(tmp_path)
    try:
        exec(snippet, found)
    finally:
        mlflow.set_tracking_uri(before)
    assert "params.input_topic" in found["lines"].filter(found["shown"]).columns  # type: ignore[attr-defined]
    client = MlflowClient(store.tracking_uri)
    wheres = {"metrics.duration > 2": 0, "metrics.total_tokens > 1000": 0, "params.input_topic LIKE '%coffee%'": 0}
    for where, count in wheres.items():
        assert where in page and len(client.search_runs([store.experiment_id], where)) == count
        met = where.replace("> 2", "> 1").replace("> 1000", "> 10").replace("coffee", "atom")
        lines = [
            run for run in client.search_runs([store.experiment_id], met) if "promptflow.line_number" in run.data.tags
        ]
        assert len(lines) == 3
