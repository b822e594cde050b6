"""Views of an experiment and descriptions of batches, as MLflow keeps them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import batch, line_record, llm_node
from mlflow import MlflowClient

from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.description import worst_metric
from pf_mlflow.projection.evaluation_runs import ScoreWriter
from pf_mlflow.projection.shared_views import mean_scores
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.line import FAILED
from pf_mlflow.records.score import Score
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.tracking.writer import StoreWriter

VIEW = "mlflow.sharedViewState.pf_mlflow_"
NAMES = {
    "batches": "Batches",
    "charts": "Charts",
    "lines": "Lines of the newest batch",
    "answers": "Answers side by side",
}


@pytest.fixture
def store(fresh_store: Path, tmp_path: Path) -> StoreWriter:
    shutil.copy(fresh_store, tmp_path)
    store = StoreWriter(f"sqlite:///{tmp_path}/mlflow.db", "views", tmp_path)
    store.open_experiment()
    return store


def opened(store: StoreWriter, uid: str) -> tuple[BatchWriter, str]:
    writer = BatchWriter(store, LocalSource(batch(uid=uid, name=uid, client_pid=0, promptflow_home=None)))
    writer.read_existing()
    parent = writer.open_parent()
    assert parent
    return writer, parent


def write(store: StoreWriter, uid: str, lines: int = 2, kinds: Sequence[str] = ("ValueError",)) -> str:
    """Write a batch whose last lines failed by errors of these kinds, and return its parent's id."""
    writer, parent = opened(store, uid)
    for n in range(lines):
        kind = kinds[n - lines + len(kinds)] if n >= lines - len(kinds) else None
        status = {"status": FAILED, "error": "my secret", "error_type": kind} if kind else {}
        record = line_record(*llm_node("joke"), batch_uid=uid, line_number=n, **status)
        writer.note(writer.write(n, record.start, record))
    writer.close_parent()
    return parent


def evaluate(store: StoreWriter, base: str, values: Sequence[float]) -> None:
    scores = batch(uid=f"{base}_scores", name=f"{base}_scores", base_uid=base, base_name=base, promptflow_home=None)
    writer = ScoreWriter(store, LocalSource(scores))
    writer.read_existing()
    writer.open_parent()
    for n, value in enumerate(values):
        given = (Score("token_f1", value),)
        record = line_record(batch_uid=scores.uid, line_number=n, scores=given, inputs={"ground_truth": "Ho!"})
        writer.note(writer.write(n, 0.0, record))
    writer.close_parent()


def tags(store: StoreWriter) -> dict[str, str]:
    return dict(MlflowClient(store.tracking_uri).get_experiment(store.experiment_id).tags)


def state(store: StoreWriter, key: str) -> dict[str, Any]:
    view = json.loads(tags(store)[VIEW + key])
    assert view["name"] == NAMES[key]
    return dict(json.loads(view["state"]))


def test_views_find_batches_and_lines_and_show_what_they_have(store: StoreWriter) -> None:
    parents = [write(store, "b1"), write(store, "b2")]
    client = MlflowClient(store.tracking_uri)
    found = {
        key: client.search_runs([store.experiment_id], state(store, key)["searchFilter"], 1, 100, ["start_time ASC"])
        for key in NAMES
    }
    for key in ("batches", "charts"):
        assert {run.info.run_id for run in found[key]} == set(parents)
    assert [run.data.tags["mlflow.parentRunId"] for run in found["lines"]] == [parents[1]] * 2
    assert len(found["answers"]) == 2 + 2
    of_line = ["params.`input_topic`", "params.`output`", "metrics.`duration`", "metrics.`total_tokens`"]
    assert state(store, "lines")["columnOrder"] == of_line
    assert state(store, "answers")["columnOrder"] == ["params.`run_display_name`", *of_line]
    of_batch = ["lines_total", "lines_failed", "duration/p50", "total_tokens"]
    assert state(store, "batches")["selectedColumns"] == [f"metrics.`{name}`" for name in of_batch]
    charted = [chart.get("metricKey") for chart in state(store, "charts")["compareRunCharts"]]
    assert charted == ["lines_completed", "lines_failed", "duration/p50", "total_tokens", None]


def test_what_earlier_batches_had_stays_in_the_view_of_all(store: StoreWriter) -> None:
    write(store, "b1", lines=3)
    evaluate(store, "b1", [0.5, 0.25])
    names = ["lines_total", "lines_failed", "token_f1/v1/mean", "duration/p50", "total_tokens"]
    for _ in range(2):
        assert state(store, "batches")["columnOrder"] == [f"metrics.`{name}`" for name in names]
        assert state(store, "charts")["compareRunCharts"][0]["metricKey"] == "token_f1/v1/mean"
        write(store, "b2")  # which has no scores


def test_a_batch_that_has_begun_has_the_view_that_links_lead_to(store: StoreWriter) -> None:
    opened(store, "b1")
    assert state(store, "batches")["orderByAsc"] is False and f"{VIEW}lines" not in tags(store)
    write(store, "b1")
    before = tags(store)
    opened(store, "b2")
    assert tags(store) == before


def test_a_view_that_a_user_changed_or_deleted_stays_so(store: StoreWriter) -> None:
    write(store, "b1")
    client = MlflowClient(store.tracking_uri)
    client.set_experiment_tag(store.experiment_id, f"{VIEW}batches", "mine")
    client.delete_experiment_tag(store.experiment_id, f"{VIEW}lines")
    write(store, "b2")
    assert tags(store)[f"{VIEW}batches"] == "mine" and f"{VIEW}lines" not in tags(store)
    client.delete_experiment_tag(store.experiment_id, f"{VIEW}batches")
    opened(store, "b3")
    assert state(store, "batches")["orderByAsc"] is False  # to which links lead


def test_a_batch_is_described_without_its_lines_texts_until_a_user_does(store: StoreWriter) -> None:
    kinds = ["ValueError", "RateLimitError", "RateLimitError", "RateLimitError"]
    parent, client = write(store, "b1", lines=9, kinds=kinds), MlflowClient(store.tracking_uri)
    runs = client.search_runs([store.experiment_id], "tags.`promptflow.kind` = 'line'")
    place = f"#/experiments/{store.experiment_id}/runs"
    links = {
        n: f"[line {n}]({place}/{run.info.run_id})"
        for run in runs
        for n in [int(run.data.tags["promptflow.line_number"])]
    }
    note = client.get_run(parent).data.tags["mlflow.note.content"]
    failed = f"5 lines completed, 4 failed: 3 RateLimitError, 1 ValueError ({links[5]}, {links[6]}, {links[7]})"
    told = note.split("  \n")
    assert [told[0], told[-1], len(told)] == [failed, "`pf-mlflow show b1 --failed`", 3]
    for key in NAMES:
        assert f"]({place}?viewStateShareKey=pf_mlflow_{key}" in note
    evaluate(store, "b1", [0.5, 0.0, 0.25, 0.75, 1.0])
    scored = client.get_run(parent).data.tags["mlflow.note.content"]
    assert "my secret" not in note + scored
    told = scored.split("  \n")
    assert told[1] == f"Scores over 5 lines: token_f1 {(0.5 + 0.0 + 0.25 + 0.75 + 1.0) / 5:.4g}"
    assert told[2] == f"Worst by token_f1: {links[1]} 0, {links[2]} 0.25, {links[0]} 0.5" and len(told) == 5
    client.set_tag(parent, "mlflow.note.content", "mine")
    write(store, "b1", lines=10)
    assert client.get_run(parent).data.tags["mlflow.note.content"] == "mine"


@pytest.mark.parametrize(
    "names, first, worst",
    [
        (
            ["answer_length", "bleu", "exact_match", "rougeL", "token_f1"],
            ["token_f1", "exact_match", "rougeL"],
            "token_f1",
        ),
        (["answer_length", "politeness", "token_f1"], ["politeness", "token_f1", "answer_length"], "politeness"),
        (["answer_length", "ari_grade_level"], ["answer_length", "ari_grade_level"], ""),
        ([], [], ""),
    ],
)
def test_the_scores_that_tell_most_come_first(names: list[str], first: list[str], worst: str) -> None:
    summary = BatchSummary(1, 1, 0, {}, {}, (), (), {f"{name}/v1/mean": 0.5 for name in names})
    assert mean_scores(summary) == [f"{name}/v1/mean" for name in first] and worst_metric(summary) == worst


def test_where_no_line_failed_the_command_looks_at_the_worst(store: StoreWriter) -> None:
    parent = write(store, "b1", kinds=())
    evaluate(store, "b1", [0.5, 0.25])
    note = MlflowClient(store.tracking_uri).get_run(parent).data.tags["mlflow.note.content"]
    assert note.startswith("2 lines completed, 0 failed  \n") and note.endswith("`pf-mlflow show b1 --worst token_f1`")
