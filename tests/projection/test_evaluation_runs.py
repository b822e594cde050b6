"""Scores written onto the runs of the batch that is scored, on stores of every kind."""

from __future__ import annotations

import io
import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builders import batch, line_record
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import CountingProxy

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.evaluation_runs import ScoreWriter, writer_of
from pf_mlflow.projection.results_table import LINES, RESULTS, _without_dots
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED
from pf_mlflow.records.score import Score
from pf_mlflow.records.source import BatchFacts
from pf_mlflow.scoring.sums import JUDGED
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.spool.launch import one_evaluation_of
from pf_mlflow.tracking.writer import StoreWriter

BASE = batch(uid="base", name="base", client_pid=0, promptflow_home=None)


class Ended(LocalSource):
    """An evaluation that started at a time of one's choice."""

    def __init__(self, batch: Batch, started: float) -> None:
        super().__init__(batch)
        self._started = started

    def facts(self) -> BatchFacts:
        return replace(super().facts(), start=self._started)


def with_base(store: StoreWriter, lines: int = 4) -> None:
    """Write a batch whose last line failed."""
    writer = BatchWriter(store, LocalSource(BASE))
    writer.open_parent()
    for n in range(lines):
        status = {"status": FAILED, "error": "no", "error_type": "ValueError"} if n == lines - 1 else {}
        record = line_record(batch_uid="base", line_number=n, **status)
        writer.note(writer.write(n, record.start, record))
    writer.close_parent()


def evaluation(
    store: StoreWriter, name: str, scores: dict[int, list[Score]], started: float = 200.0, expected: str = ""
) -> ScoreWriter:
    """Write an evaluation, its lines in another order than theirs."""
    own = replace(BASE, uid=name, name=name, base_uid="base", base_name="base")
    writer = ScoreWriter(store, Ended(own, started))
    writer.read_existing()
    writer.open_parent()
    for n in sorted(scores, reverse=True):
        given: dict[str, Any] = {"inputs": {"ground_truth": expected}, "start": started, "end": started + 1}
        record = line_record(batch_uid=name, line_number=n, scores=tuple(scores[n]), **given)
        assert not writer.write(n, record.start, None).is_over  # a line begins before it has any
        with writer.transaction() as inside:
            written = writer.write(n, record.start, record, inside)
        writer.note(written)
    writer.close_parent()
    return writer


def runs(store: StoreWriter) -> tuple[Run, dict[int, Run]]:
    found = MlflowClient(store.tracking_uri).search_runs([store.experiment_id], "tags.`promptflow.batch_uid` = 'base'")
    children = {int(n): run for run in found if (n := run.data.tags.get("promptflow.line_number"))}
    return next(run for run in found if "promptflow.line_number" not in run.data.tags), children


def numbers(run: Run) -> dict[str, float]:
    return {key: value for key, value in run.data.metrics.items() if "/v1" in key and not math.isnan(value)}


def table_of(store: StoreWriter, name: str) -> pd.DataFrame:
    return pd.read_json(io.StringIO(store.text(runs(store)[0].info.run_id, name)), orient="split")


def words(run: Run) -> dict[str, str]:
    return {key: value for key, value in run.data.tags.items() if "/v1" in key}


FIRST = {n: [Score("bleu", n / 4), Score("mood", "glad"), Score("f1", error="no")] for n in range(3)}


@pytest.fixture(params=["sqlite", "server"])
def store(request: pytest.FixtureRequest, fresh_store: Path, tmp_path: Path) -> StoreWriter:
    shutil.copy(fresh_store, tmp_path)
    sqlite = request.param == "sqlite"
    uri = f"sqlite:///{tmp_path}/mlflow.db" if sqlite else request.getfixturevalue("server")
    store = StoreWriter(uri, f"scores of {tmp_path.name}", tmp_path)
    store.open_experiment()
    with_base(store)
    return store


def test_what_others_named_alike_stays_and_is_not_summed_up(store: StoreWriter) -> None:
    parent, children = runs(store)
    client = MlflowClient(store.tracking_uri)
    client.log_metric(children[0].info.run_id, "toxicity/v1", 0.9)
    client.set_tag(children[0].info.run_id, "toxicity/v1/rationale", "rude")
    client.log_metric(parent.info.run_id, "toxicity/v1/mean", 0.9)
    evaluation(store, "first", FIRST)
    evaluation(store, "second", {0: [Score("f1", 0.5)]}, started=300.0)
    parent, children = runs(store)
    assert numbers(children[0]) == {"toxicity/v1": 0.9, "f1/v1": 0.5} and numbers(children[1]) == {}
    assert words(children[0]) == {"toxicity/v1/rationale": "rude"} and words(children[1]) == {}
    sums = {key: value for key, value in numbers(parent).items() if key.endswith("mean")}
    assert sums == {"toxicity/v1/mean": 0.9, "f1/v1/mean": 0.5}


def test_on_the_lines_they_are_of_and_summed_up(store: StoreWriter) -> None:
    evaluation(store, "first", FIRST)
    parent, children = runs(store)
    assert {n: numbers(run) for n, run in children.items()} == {
        **{n: {"bleu/v1": n / 4} for n in range(3)},
        3: {},
    }
    assert [words(children[n]) for n in range(4)] == [{"mood/v1": "glad", "f1/v1/error": "no"}] * 3 + [{}]
    assert numbers(parent) == {
        "bleu/v1/mean": pytest.approx((0 + 1 / 4 + 2 / 4) / 3),
        "bleu/v1/variance": pytest.approx(((1 / 4) ** 2 + (1 / 4) ** 2) / 3),
        "bleu/v1/p90": pytest.approx(1 / 4 + 0.8 * 1 / 4),
        "bleu/v1/count": 3,
        "mood/v1/count": 3,
        "f1/v1/error_count": 3,
    }
    assert (parent.data.metrics["lines_evaluated"], parent.data.metrics["lines_not_evaluated"]) == (3, 1)
    assert parent.info.status == "FINISHED" and parent.data.tags["promptflow.evaluation"] == "first"


def test_one_request_a_line(proxy: CountingProxy, tmp_path: Path) -> None:
    store = StoreWriter(proxy.uri, f"scores of {tmp_path.name}", tmp_path)
    store.open_experiment()
    with_base(store)
    proxy.requests.clear()
    evaluation(store, "first", FIRST)
    assert proxy.counted()["runs/log-batch"] == len(FIRST) + 2  # and the parent's, and its description


def test_a_later_one_leaves_nothing_of_an_earlier_one(store: StoreWriter) -> None:
    evaluation(store, "first", FIRST)
    evaluation(store, "second", {1: [Score("rougeL", 0.5)]}, started=300.0)
    parent, children = runs(store)
    assert {n: numbers(run) | words(run) for n, run in children.items()} == {0: {}, 1: {"rougeL/v1": 0.5}, 2: {}, 3: {}}
    assert [run.data.tags.get("promptflow.evaluation") for _, run in sorted(children.items())] == [
        *(None, "second", None, None)
    ]
    assert {key.partition("/")[0] for key in numbers(parent)} == {"rougeL"}
    assert parent.data.metrics["lines_not_evaluated"] == 3


def test_an_earlier_one_that_comes_later_changes_nothing(store: StoreWriter) -> None:
    evaluation(store, "second", {1: [Score("bleu", 0.5)]}, started=300.0)
    before = [(run.data.metrics, run.data.tags) for run in runs(store)[1].values()]
    first = evaluation(store, "first", FIRST, started=200.0)
    parent, children = runs(store)
    assert first.remark == (
        "The evaluation 'second' of the same batch started later than 'first' and takes its place: MLflow shows the "
        "scores of that one."
    )
    assert [(run.data.metrics, run.data.tags) for run in children.values()] == before
    assert parent.data.tags["promptflow.evaluation"] == "second" and parent.data.metrics["bleu/v1/count"] == 1


def test_one_that_scores_nothing_leaves_an_earlier_one(store: StoreWriter) -> None:
    evaluation(store, "first", FIRST)
    evaluation(store, "broken", {0: [], 2: []}, started=300.0)  # lines that failed
    parent, children = runs(store)
    assert parent.data.tags["promptflow.evaluation"] == "first" and numbers(children[2]) == {"bleu/v1": 2 / 4}
    assert parent.data.metrics["lines_evaluated"] == 3


def test_one_that_scores_nothing_is_not_told(store: StoreWriter) -> None:
    evaluation(store, "somebody else's", {})
    parent, _ = runs(store)
    assert "promptflow.evaluation" not in parent.data.tags and "lines_evaluated" not in parent.data.metrics


def test_written_again_it_is_the_same(store: StoreWriter) -> None:
    evaluation(store, "first", FIRST)
    before = [run.data.metrics for run in runs(store)[1].values()]
    again = evaluation(store, "first", FIRST)
    assert [run.data.metrics for run in runs(store)[1].values()] == before
    assert again.changes.completed == 0 and not again.changes.parent
    synced = writer_of(store, LocalSource(BASE))
    synced.read_existing()
    synced.open_parent()
    assert synced.close_parent().scores["bleu/v1/mean"] == pytest.approx(1 / 4) and not synced.changes


def verdict(name: str, value: str | None, tokens: int | None, **more: Any) -> Score:
    return Score(name, value, model="m", prompt_tokens=tokens, seconds=0.5, **more)


def test_what_a_retry_costs_is_added_to_what_is_kept_or_asked_again(store: StoreWriter) -> None:
    first = {0: [verdict("a", "yes", 10), verdict("b", None, 20, error="prose"), verdict("c", "no", 30)]}
    retried = {0: [verdict("a", "yes", None, cached=True), verdict("b", "yes", 21), verdict("c", "yes", 33)]}
    evaluation(store, "first", first)
    for _ in range(2):  # the second time it is written again
        evaluation(store, "retried", retried, started=300.0)
        parent, children = runs(store)
        costs = {name: children[0].data.metrics[f"{JUDGED}{name}/prompt_tokens"] for name in "abc"}
        assert costs == {"a": 10, "b": 20 + 21, "c": 33}
        assert parent.data.metrics["judge/prompt_tokens"] == 10 + 20 + 21 + 33
        assert parent.data.metrics["judge/seconds"] == 0.5 * 5


def test_a_line_without_a_run_is_refused_and_told(store: StoreWriter) -> None:
    own = replace(BASE, uid="e", name="e", base_uid="base", base_name="base")
    writer = ScoreWriter(store, Ended(own, 200.0))
    writer.read_existing()
    writer.open_parent()
    written = writer.write(9, 200.0, line_record(line_number=9, scores=(Score("bleu", 1.0),)))
    assert written.refused and "pf-mlflow sync base" in written.refused and "line 9" in written.refused


def test_a_batch_that_mlflow_does_not_have_is_refused_and_told(store: StoreWriter) -> None:
    own = replace(BASE, uid="e", name="e", base_uid="nobody", base_name="nobody")
    writer = ScoreWriter(store, Ended(own, 200.0))
    writer.read_existing()
    with pytest.raises(TrackingRefused, match="pf-mlflow sync nobody"):
        writer.open_parent()


def test_a_tag_that_is_gone_already_is_no_trouble(store: StoreWriter) -> None:
    parent, _ = runs(store)
    MlflowClient(store.tracking_uri).set_tag(parent.info.run_id, "stale", "yes")
    store.drop_tags(parent.info.run_id, ["gone already", "stale"])
    assert "stale" not in runs(store)[0].data.tags


def test_without_a_place_for_artifacts_there_are_numbers_all_the_same(
    store: StoreWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(run_id: str, path: Path, is_scored: bool) -> None:
        raise PermissionError(13, "Permission denied", "/mlflow/artifacts")

    monkeypatch.setattr(store, "log_table", refused)
    evaluation(store, "first", FIRST)
    parent, _ = runs(store)
    assert numbers(parent)["bleu/v1/count"] == 3 and parent.data.tags["promptflow.evaluation"] == "first"
    assert "eval_results_table.json" in caplog.text


def test_what_was_expected_is_on_the_line_as_long_as_its_evaluation_is(store: StoreWriter) -> None:
    evaluation(store, "first", {0: [Score("f1", 0.5)]}, expected="Paris")
    assert runs(store)[1][0].data.tags["expected"] == "Paris"
    table = table_of(store, RESULTS)
    first = ["line_number", "output", "input_topic", "expected", "f1/v1"]
    assert [*table.columns[: len(first)]] == first and table["expected"][0] == "Paris"
    evaluation(store, "second", {0: [Score("f1", 0.5)]}, started=300.0)
    assert "expected" not in runs(store)[1][0].data.tags


def test_a_batch_without_scores_has_its_table_too(store: StoreWriter) -> None:
    table = table_of(store, LINES)
    assert [*table.columns[:2]] == ["line_number", "output"] and [*table["line_number"]] == [0, 1, 2, 3]
    assert [*table["output"]] == ["Ha!"] * 4 and [*table["status"]] == ["FINISHED"] * 3 + ["FAILED"]


@pytest.mark.parametrize(
    "names, shown",
    [
        (["a.output", "line_number"], ["a_output", "line_number"]),
        (["a.b", "a_b", "a..b"], ["a_b_", "a_b", "a__b"]),
    ],
)
def test_columns_have_no_dots_and_stay_apart(names: list[str], shown: list[str]) -> None:
    assert _without_dots(names) == shown


def test_one_evaluation_of_a_batch_at_a_time(tmp_path: Path) -> None:
    first, second = (replace(BASE, uid=uid, base_uid="base") for uid in ("first", "second"))
    order: list[str] = []

    def write() -> None:
        with one_evaluation_of(tmp_path, second):
            order.append("second")

    with one_evaluation_of(tmp_path, first):
        waiting = threading.Thread(target=write)
        waiting.start()
        with one_evaluation_of(tmp_path, BASE), one_evaluation_of(tmp_path, BASE):  # a batch of its own waits for none
            waiting.join(0.3)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
