from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from builders import batch
from finished import CREATED, EVALUATION_FLOW, call, finished_batch, joke_call, run_info
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from pf_mlflow.delivery.deliver import Delivered, DeliveryObserver, Policy, deliver_once
from pf_mlflow.delivery.retry_policy import Deadline
from pf_mlflow.delivery.write_queue import QueuedLine
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.records.source import BatchFacts
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import LINE


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
        self._left = {moment: what}

    def _is_now(self, moment: str) -> None:
        self._left.pop(moment, lambda: None)()

    def started(self, complete: int) -> None:
        self._is_now("started")

    def line_written(self, line: QueuedLine, written: LineWritten) -> None:
        self._is_now("line_written")


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
