from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import batch, line_record
from finished import CREATED, EVALUATION_FLOW, call, finished_batch, joke_call, run_info
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from servers import postgres
from sqlalchemy import NullPool, create_engine

from pf_mlflow.delivery.deliver import Delivered, DeliveryObserver, Policy, deliver_once
from pf_mlflow.delivery.retry_policy import Deadline
from pf_mlflow.delivery.write_queue import QueuedLine
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.score import Score
from pf_mlflow.records.source import BatchFacts
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import LINE
from pf_mlflow.tracking.run_payload import path_of_whole


class Broken(LocalSource):
    def facts(self) -> BatchFacts:
        raise KeyError("display_name")


@pytest.mark.parametrize(
    ("source", "folder", "error", "says"),
    [
        (Broken, ".", KeyError, "KeyError: 'display_name'"),
        (LocalSource, "nowhere", TrackingRefused, "is not a folder"),
    ],
)
def test_whatever_goes_wrong_is_in_the_result(
    tmp_path: Path, source: type[LocalSource], folder: str, error: type[Exception], says: str
) -> None:
    spool, one = Spool(tmp_path / "spool"), batch()
    spool.add_batch(one)
    uri = f"sqlite:///{tmp_path / folder}/mlflow.db"
    done = deliver_once(spool, source(one), uri, nullcontext(), Policy(Deadline(0.0)), DeliveryObserver())
    assert isinstance(done.error, error) and done.trouble and says in done.trouble
    assert (done.is_closed, done.is_deleted, done.lines) == (False, False, 0)
    state = spool.state(one.uid)
    assert state and state.closed is None


class Meanwhile(DeliveryObserver):
    """Has something done once at a moment of a delivery."""

    def __init__(self, moment: str, what: Callable[[], object]) -> None:
        self._left, self._written = {moment: what}, 0

    def _is_now(self, moment: str) -> None:
        self._left.pop(moment, lambda: None)()

    def started(self, complete: int) -> None:
        self._is_now("started")

    def line_written(self, line: QueuedLine, written: LineWritten) -> None:
        self._is_now("line_written")
        self._written += 1
        self._is_now(f"line_{self._written}_written")


@pytest.mark.parametrize("which", ["parent", "all"])
@pytest.mark.parametrize("moment", ["started", "line_written"])
def test_a_batch_that_is_deleted_while_it_is_delivered_is_left_alone_until_it_is_restored(
    tmp_path: Path, fresh_store: Path, moment: str, which: str
) -> None:
    uri = f"sqlite:///{shutil.copy(fresh_store, tmp_path)}"
    finished_batch(tmp_path / "home", [run_info(number, joke_call()) for number in range(30)])
    one = batch(uid=batch_uid(tmp_path / "home", "b1", CREATED), promptflow_home=str(tmp_path / "home"))
    client, spool = MlflowClient(uri), Spool(tmp_path / "spool")
    spool.add_batch(one)

    def runs(view: int) -> list[Run]:
        experiment = client.get_experiment_by_name("joke-flow")
        return list(client.search_runs([experiment.experiment_id], run_view_type=view, max_results=1000))

    def delete() -> None:
        for run in runs(ViewType.ACTIVE_ONLY):
            if which == "all" or LINE not in run.data.tags:
                client.delete_run(run.info.run_id)

    def deliver(observer: DeliveryObserver) -> Delivered:
        policy = Policy(Deadline(1.0), retries_refused=True)
        return deliver_once(spool, LocalSource(one), uri, nullcontext(), policy, observer)

    if moment == "started":  # once MLflow has the parent and some lines
        assert deliver(DeliveryObserver()).is_closed
        for run in runs(ViewType.ACTIVE_ONLY)[:5]:
            client.update_run(run.info.run_id, status="RUNNING")
    done = deliver(Meanwhile(moment, delete))
    (parent,) = [run.info.run_id for run in runs(ViewType.DELETED_ONLY) if LINE not in run.data.tags]
    for again in (done, deliver(DeliveryObserver())):
        assert again.is_deleted and not again.is_closed, again.trouble
        assert again.trouble and f"`mlflow runs restore --run-id {parent}`" in again.trouble
    assert not [run for run in runs(ViewType.ACTIVE_ONLY) if LINE not in run.data.tags]
    client.restore_run(parent)
    done = deliver(DeliveryObserver())
    assert (done.is_closed, done.parent_run_id, done.lines, done.trouble) == (True, parent, 30, None)


@pytest.mark.parametrize("moment", ["started", "line_written"])
def test_two_spools_that_deliver_one_batch_at_once_leave_each_line_once(
    tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    uri = f"sqlite:///{shutil.copy(fresh_store, tmp_path)}"
    finished_batch(tmp_path / "home", [run_info(number, joke_call()) for number in range(60)])
    one = batch(uid=batch_uid(tmp_path / "home", "b1", CREATED), promptflow_home=str(tmp_path / "home"))

    def deliver(folder: str, observer: DeliveryObserver) -> Delivered:
        spool, policy = Spool(tmp_path / folder), Policy(Deadline(1.0))
        spool.add_batch(one)
        done = deliver_once(spool, LocalSource(one), uri, nullcontext(), policy, observer)
        assert (done.is_closed, done.trouble, done.lines) == (True, None, 60)
        state = spool.state(one.uid)
        assert state and state.parent_run_id == done.parent_run_id
        return done

    done = deliver("mine", Meanwhile(moment, lambda: deliver("another's", DeliveryObserver())))
    experiment = MlflowClient(uri).get_experiment_by_name("joke-flow")
    parents, children = [], []
    for run in MlflowClient(uri).search_runs([experiment.experiment_id], max_results=1000):
        (children if LINE in run.data.tags else parents).append(run)
    assert [run.info.run_id for run in parents] == [done.parent_run_id]
    assert sorted(int(run.data.tags[LINE]) for run in children) == [*range(60)]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {done.parent_run_id}
    assert parents[0].data.metrics["lines_total"] == 60 and parents[0].data.metrics["total_tokens"] == 60 * 18


class Listener(DeliveryObserver):
    """Hears what is remarked, and whether the batch was closed by then."""

    def __init__(self, spool: Spool, uid: str) -> None:
        self._spool, self._uid = spool, uid
        self.heard: list[tuple[str, bool]] = []

    def remarked(self, sentence: str) -> None:
        state = self._spool.state(self._uid)
        self.heard.append((sentence, bool(state and state.closed)))


def test_that_a_later_evaluation_took_its_place_is_told_before_it_is_closed(tmp_path: Path, fresh_store: Path) -> None:
    uri, home, spool = f"sqlite:///{shutil.copy(fresh_store, tmp_path)}", tmp_path / "home", Spool(tmp_path / "spool")
    scored = call("save_scores", 100.25, node_name="save_scores", output=[{"name": "f1", "value": 0.5}])
    finished_batch(home, [run_info(0, joke_call())])
    finished_batch(home, [run_info(0, scored)], "early", EVALUATION_FLOW, "b1")
    later = {"start_time": "2026-11-21T05:58:16.500000+00:00"}
    finished_batch(home, [run_info(0, scored)], "late", EVALUATION_FLOW, "b1", **later)
    base = batch(uid=batch_uid(home, "b1", CREATED), promptflow_home=str(home), tracking_uri=uri)
    heard = {}
    for name in ("b1", "late", "early"):
        of_base = {"base_uid": base.uid, "base_name": "b1"} if name != "b1" else {}
        one = replace(base, uid=batch_uid(home, name, CREATED), name=name, **of_base)
        spool.add_batch(one)
        listener = Listener(spool, one.uid)
        done = deliver_once(spool, LocalSource(one), uri, nullcontext(), Policy(Deadline(0.0)), listener)
        assert done.is_closed and done.error is None
        heard[name] = listener.heard
    says = "The evaluation 'late' of the same batch started later than 'early' and takes its place: MLflow shows the "
    assert heard == {"b1": [], "late": [], "early": [(f"{says}scores of that one.", False)]}


class Kept(LocalSource):
    def __init__(self, batch: Batch, records: list[LineRecord]) -> None:
        super().__init__(batch)
        self._records = records

    def lines(self, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[LineRecord]:
        return (record for record in self._records if wanted(record.line_number))


class Left:
    """A batch that ran without MLflow, and a store."""

    def __init__(self, folder: Path, uri: str, lines: int = 30) -> None:
        self.uri = uri
        finished_batch(folder / "home", [run_info(number, joke_call()) for number in range(lines)])
        uid = batch_uid(folder / "home", "b1", CREATED)
        self.batch = batch(uid=uid, promptflow_home=str(folder / "home"))
        self.client, self.spool = MlflowClient(self.uri), Spool(folder / "spool")
        self.spool.add_batch(self.batch)

    def deliver(
        self, moment: str = "", what: Callable[[], object] = lambda: None, source: LocalSource | None = None
    ) -> Delivered:
        source = source or LocalSource.of(self.batch, self.spool)
        policy = Policy(Deadline(1.0), retries_refused=True)
        return deliver_once(self.spool, source, self.uri, nullcontext(), policy, Meanwhile(moment, what))

    def runs(self, which: str = "") -> list[Run]:
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, which, max_results=1000))

    @property
    def experiment_id(self) -> str:
        return str(self.client.get_experiment_by_name("joke-flow").experiment_id)

    def score(self, meanwhile: Callable[[], object] = lambda: None, rationale: str = "") -> Delivered:
        """Deliver an evaluation of its first ten lines, which promptflow keeps."""
        own: dict[str, Any] = {
            "uid": "scores",
            "name": "scores",
            "base_uid": self.batch.uid,
            "base_name": "b1",
            "promptflow_home": None,
        }
        scores = (Score("bleu", 0.5, rationale=rationale),)
        records = [line_record(batch_uid="scores", line_number=number, scores=scores) for number in range(10)]
        self.spool.add_batch(replace(self.batch, **own))
        return self.deliver("started", meanwhile, Kept(replace(self.batch, **own), records))

    def keep_files_in(self, folder: Path) -> None:
        with closing(sqlite3.connect(self.uri.removeprefix("sqlite:///"))) as db, db:
            db.execute("UPDATE runs SET artifact_uri = ? || run_uuid", [f"{folder}/"])


@pytest.fixture
def left(tmp_path: Path, fresh_store: Path) -> Left:
    return Left(tmp_path, f"sqlite:///{shutil.copy(fresh_store, tmp_path)}")


@pytest.mark.parametrize("moment", ["started", "line_written", "afterwards"])
def test_an_experiment_that_is_renamed_keeps_its_batches(left: Left, moment: str) -> None:
    def rename() -> None:
        left.client.rename_experiment(left.experiment_id, "renamed")

    assert left.deliver(moment, rename).is_closed
    if moment == "afterwards":
        rename()
    left.client.create_experiment("joke-flow")  # for other batches since
    before = {run.info.run_id for run in left.runs()}
    done = left.deliver()
    assert (done.is_closed, bool(done.changes), done.lines) == (True, False, 30)
    assert left.score().is_closed
    assert {run.info.run_id for run in left.runs()} == before
    assert len(left.runs("metrics.`bleu/v1` = 0.5")) == 10


def test_a_line_whose_run_is_deleted_meanwhile_is_not_counted(left: Left) -> None:
    def delete() -> None:
        (run,) = left.runs("tags.`promptflow.line_number` = '0'")
        left.client.delete_run(run.info.run_id)

    done = left.deliver("line_26_written", delete)
    (parent,) = left.runs("params.flow != ''")
    assert (done.is_closed, done.lines, parent.data.metrics["lines_total"]) == (True, 29, 29)
    assert parent.data.metrics["total_tokens"] == 29 * 18


@pytest.mark.slow
def test_postgres_that_ends_its_connections(tmp_path: Path) -> None:
    with postgres() as uri:
        left, engine = Left(tmp_path, uri, 150), create_engine(uri, poolclass=NullPool)

        def end_all() -> None:
            with engine.connect() as connection:
                every = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
                connection.exec_driver_sql(every)

        done = left.deliver("line_1_written", end_all)
        assert (done.is_closed, done.lines, done.trouble) == (True, 150, None)
        assert Counter(run.data.tags.get(LINE) for run in left.runs()) == Counter([None, *map(str, range(150))])


def test_an_experiment_that_is_deleted_is_what_is_to_be_restored(left: Left) -> None:
    id = left.experiment_id
    done = left.deliver("line_written", lambda: left.client.delete_experiment(id))
    assert not done.is_closed and done.trouble and f"`mlflow experiments restore --experiment-id {id}`" in done.trouble


def test_a_batch_that_is_deleted_while_its_scores_are_delivered_is_what_is_to_be_restored(left: Left) -> None:
    parent = left.deliver().parent_run_id or ""

    def delete() -> None:
        for run in left.runs():
            left.client.delete_run(run.info.run_id)

    done = left.score(delete)
    assert not done.is_closed and done.trouble and f"`mlflow runs restore --run-id {parent}`" in done.trouble
    assert "the runs of 'b1'" in done.trouble and "`pf-mlflow sync scores` the scores" in done.trouble
    for run in left.client.search_runs([left.experiment_id], run_view_type=ViewType.DELETED_ONLY, max_results=100):
        left.client.restore_run(run.info.run_id)
    assert left.score().is_closed and len(left.runs("metrics.`bleu/v1` = 0.5")) == 10


def test_long_texts_of_scores_that_no_file_could_keep_come_when_one_can(left: Left, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    rationale, key = "because " * 1000, "bleu/v1/rationale"
    left.deliver()
    left.keep_files_in(tmp_path / "a file")
    done = left.score(rationale=rationale)
    assert done.is_closed and "of 10 lines" in (done.lost or "")
    left.keep_files_in(tmp_path / "files")
    done = left.score(rationale=rationale)
    assert (done.is_closed, done.lost, done.changes.completed) == (True, None, 10)
    for run in left.runs("metrics.`bleu/v1` = 0.5"):
        path = path_of_whole(run.data.tags[key]) or ""
        assert (tmp_path / "files" / run.info.run_id / path).read_text() == rationale
        assert not any(tag.startswith("promptflow.not_kept") for tag in run.data.tags)
