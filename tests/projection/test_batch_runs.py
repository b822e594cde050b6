from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from builders import batch, line_record
from finished import CREATED, finished_batch, joke_call, run_info
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import CountingProxy

from pf_mlflow.errors import TrackingDown, TrackingError, TrackingForbidden, TrackingRefused
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.results_table import ResultsTable
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED, INTERRUPTED, LineRecord
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.tracking.run_payload import NOT_LOGGED, RunPayload
from pf_mlflow.tracking.writer import StoreWriter

T = TypeVar("T")
uids = (f"uid{number}" for number in count())


@pytest.fixture(scope="module")
def store(fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreWriter:
    folder = tmp_path_factory.mktemp("writer")
    shutil.copy(fresh_store, folder)
    store = StoreWriter(f"sqlite:///{folder}/mlflow.db", "joke-flow", folder)
    store.open_experiment()
    return store


@pytest.fixture
def one() -> Batch:
    return batch(uid=next(uids))


@pytest.fixture
def far(proxy: CountingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreWriter:
    """A server, which can say no and whose answers can get lost."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    far = StoreWriter(proxy.uri, "joke-flow", tmp_path)
    far.open_experiment()
    return far


def ready(store: StoreWriter, one: Batch) -> BatchWriter:
    writer = BatchWriter(store, LocalSource(one))
    writer.read_existing()
    writer.open_parent()
    return writer


def record(number: int = 7, **changes: Any) -> LineRecord:
    return line_record(line_number=number, **changes)


def write(writer: BatchWriter, *records: LineRecord) -> None:
    for one in records:
        writer.note(writer.write(one.line_number, one.start, one))


def shown(store: StoreWriter, uid: str) -> list[dict[str, Any]]:
    runs = MlflowClient(store.tracking_uri).search_runs([store.experiment_id], f"tags.`promptflow.batch_uid` = '{uid}'")
    return sorted((run.to_dictionary() for run in runs), key=lambda run: str(run["info"]["run_id"]))


def get(store: StoreWriter, run_id: str | None) -> Run:
    return MlflowClient(store.tracking_uri).get_run(run_id or "")


def test_a_batch_from_its_first_line_to_its_end(store: StoreWriter, one: Batch) -> None:
    writer = ready(store, one)
    opened = writer.write(7, 100.0, None)
    assert (opened.made, opened.is_over, get(store, opened.run_id).info.status) == (True, False, "RUNNING")
    done = writer.write(7, 100.0, record())
    assert (done.run_id, done.made, done.refused) == (opened.run_id, False, None) and done.is_over
    for written in (opened, done):
        writer.note(written)
    write(writer, record(8, status=FAILED, error_type="ValueError", error="boom"))
    summary = writer.close_parent()
    assert (summary.lines_total, summary.lines_failed, summary.tokens["total_tokens"]) == (2, 1, 18 + 18)
    assert get(store, writer.existing.complete[8]).info.status == "FAILED"
    parent = get(store, writer.existing.parent and writer.existing.parent.run_id)
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "b1")
    assert parent.data.params == {"flow": "joke-flow"} and parent.data.metrics == summary.metrics()
    assert (writer.changes.made, writer.changes.completed, writer.changes.parent) == (1 + 1, 1, "made")


def test_what_is_there_is_left_as_it_is(store: StoreWriter, one: Batch) -> None:
    first = ready(store, one)
    write(first, record(7), record(8))
    sums = first.close_parent()
    before = shown(store, one.uid)
    for _ in range(2):
        again = ready(store, one)
        written = again.write(7, 100.0, record(7, outputs={"joke": "a poorer source"}))
        assert (written.run_id, written.is_over, written.made) == (first.existing.complete[7], False, False)
        again.note(written)
        assert again.close_parent().metrics() == sums.metrics() and not again.changes
    assert shown(store, one.uid) == before


def test_a_batch_that_another_process_wrote_is_shown_by_who_closes_it(store: StoreWriter, one: Batch) -> None:
    write(ready(store, one), record(7), record(8))
    closing = ready(store, one)
    closing.close_parent()
    parent = get(store, closing.existing.parent and closing.existing.parent.run_id)
    files = MlflowClient(store.tracking_uri).list_artifacts(parent.info.run_id)
    assert [file.path for file in files] == ["results_table.json"] and "mlflow.note.content" in parent.data.tags
    assert parent.info.status == "FINISHED"


def test_a_line_whose_end_mlflow_has_lost_keeps_the_batch_open_however_often_it_is_asked(
    store: StoreWriter, one: Batch
) -> None:
    write(writer := ready(store, one), record(7), record(8))
    MlflowClient(store.tracking_uri).update_run(writer.existing.complete[7] or "", status="RUNNING")
    for _ in range(2):
        with pytest.raises(TrackingDown, match="has taken the end of line 7 and lost it"):
            writer.close_parent()
    assert get(store, writer.existing.parent and writer.existing.parent.run_id).info.status == "RUNNING"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_table_without_room_takes_nothing_else_away(store: StoreWriter, one: Batch) -> None:
    import resource

    write(ready(store, one), *(record(number, outputs={"joke": "long " * 500}) for number in range(20)))
    runs, before = list(store.runs(one.uid)), resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultsTable() as table:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            assert list(table.filled(runs)) == runs
            table.add_data((number, {"category": "long " * 500}) for number in range(20))
            table.log_to(store, runs[0].run_id)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not MlflowClient(store.tracking_uri).list_artifacts(runs[0].run_id)


def test_the_parent_s_sums_follow_its_lines(store: StoreWriter, one: Batch) -> None:
    write(writer := ready(store, one), record(7))
    writer.close_parent()
    again = ready(store, one)
    write(again, record(8, status=FAILED, error_type="ValueError"))
    again.close_parent()
    assert (again.changes.made, again.changes.parent) == (1, "updated")
    metrics = get(store, again.existing.parent and again.existing.parent.run_id).data.metrics
    assert (metrics["lines_total"], metrics["lines_failed"], metrics["total_tokens"]) == (2, 1, 18 + 18)


def test_a_run_that_was_cut_off_is_completed_later(store: StoreWriter, one: Batch) -> None:
    writer = ready(store, one)
    write(writer, record(7, spans=(), status=FAILED, error_type=INTERRUPTED, error="the batch ended", outputs={}))
    assert writer.close_parent().lines_failed == 1
    run_id = writer.existing.run_id(7)
    assert get(store, run_id).data.tags["promptflow.error_type"] == INTERRUPTED

    again = ready(store, one)
    assert again.existing.incomplete.keys() == {7}
    assert again.close_parent().lines_failed == 1 and not again.changes
    write(again, record(7))
    summary = again.close_parent()
    run = get(store, run_id)
    assert run.info.status == "FINISHED" and run.data.params["output"] == "Ha!"
    assert not {"promptflow.error", "promptflow.error_type"} & run.data.tags.keys()
    assert again.changes.completed == 1

    third = ready(store, one)
    assert third.close_parent().metrics() | {"lines_failed": 0.0} == third.existing.summary().metrics()
    assert summary.lines_total >= 1 and third.existing.complete == {7: run_id}


def test_present_params_are_never_written_anew(store: StoreWriter, one: Batch) -> None:
    writer = ready(store, one)
    run_id = writer.write(7, 100.0, None).run_id
    store.log(run_id, RunPayload("RUNNING", 0, 0, {"output": "the richer one", "run_display_name": "b1"}))
    store.complete(run_id, RunPayload("FAILED", 0, 1, tags={"promptflow.error_type": INTERRUPTED}))
    again = ready(store, one)
    write(again, record(7))
    params = get(store, run_id).data.params
    assert (params["output"], params["input_topic"]) == ("the richer one", "atom")
    assert again.changes.refused == 0


def test_values_that_mlflow_refuses_are_told_and_counted(store: StoreWriter, one: Batch) -> None:
    writer = ready(store, one)
    run_id = writer.write(7, 100.0, None).run_id
    store.log(run_id, RunPayload("RUNNING", 0, 0, {"output": "somebody else's"}))
    written = writer.write(7, 100.0, record(7))
    writer.note(written)
    write(writer, record(8))
    summary = writer.close_parent()
    assert "400" in (written.refused or "") and writer.changes.refused == 1
    run = get(store, run_id)
    assert (run.info.status, run.data.tags[NOT_LOGGED]) == ("FINISHED", written.refused)
    assert (summary.lines_total, summary.tokens["total_tokens"]) == (2, 18)  # of what the runs show
    before = shown(store, one.uid)

    again = ready(store, one)
    assert again.existing.incomplete.keys() == {7}  # it is known with its param now, so that the rest can be written
    write(again, record(7))
    assert again.changes.refused == 0 and NOT_LOGGED not in get(store, run_id).data.tags
    assert again.close_parent().tokens["total_tokens"] == 18 + 18 and shown(store, one.uid) != before


def test_texts_are_cut_shorter_where_mlflow_takes_less(
    store: StoreWriter, one: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    writer = ready(store, one)
    writer._param_limit = 7000  # this MLflow takes 6000, as an older one takes 500 where 6000 are sent
    long = record(7, spans=(), outputs={"joke": "x" * 6500})
    write(writer, long, record(8, spans=(), outputs={"joke": "y" * 6500}))
    runs = [get(store, writer.existing.complete[number]) for number in (7, 8)]
    assert [len(run.data.params["output"]) for run in runs] == [500, 500] and writer.changes.refused == 0


def test_an_experiment_that_is_deleted_meanwhile_is_named(store: StoreWriter, tmp_path: Path) -> None:
    other = StoreWriter(store.tracking_uri, "deleted meanwhile", tmp_path)
    other.open_experiment()
    writer = ready(other, batch(uid=next(uids)))
    MlflowClient(store.tracking_uri).delete_experiment(other.experiment_id)
    with pytest.raises(TrackingRefused, match="mlflow experiments restore"):
        writer.write(7, 100.0, record())


def test_single_executions_have_no_parent(store: StoreWriter) -> None:
    writer = ready(store, one := batch(uid=next(uids), name="", single=True))
    assert writer.existing.parent is None
    write(writer, record(0, run_name="a-run"), record(1, run_name="another"))
    assert writer.close_parent().lines_total == 2
    runs = [get(store, writer.existing.complete[number]) for number in (0, 1)]
    assert [run.data.tags["promptflow.run_id"] for run in runs] == ["a-run", "another"]
    assert len(shown(store, one.uid)) == 2


def test_what_is_there_twice_goes(store: StoreWriter, one: Batch) -> None:
    parents = [store.create_parent(one, "b1", at) for at in (100.0, 101.0)]
    run_ids = {
        (number, at): store.create_child(one, number, parent, 102.0 + at)
        for at, parent in enumerate(parents)
        for number in (7, 8)
    }
    lonely = store.create_child(one, 9, parents[1], 102.0)
    store.complete(run_ids[8, 1], RunPayload("FINISHED", 0, 1))
    writer = ready(store, one)
    assert writer.changes.removed == 1 + 2
    assert writer.existing.parent and writer.existing.parent.run_id == parents[1]  # it has the most children
    assert writer.existing.complete == {8: run_ids[8, 1]} and writer.existing.surplus == []
    assert {n: run.run_id for n, run in writer.existing.incomplete.items()} == {7: run_ids[7, 0], 9: lonely}
    assert {run.parent_run_id for run in writer.existing.incomplete.values()} == {parents[1]}
    assert not ready(store, one).changes


def test_the_run_that_the_outputs_name_stays(store: StoreWriter, tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = finished_batch(home, [run_info(7, joke_call())])
    one = batch(uid=batch_uid(home, "b1", CREATED), promptflow_home=str(home))
    parent = store.create_parent(one, "b1", 100.0)
    first, named = (store.create_child(one, 7, parent, at) for at in (101.0, 102.0))
    store.complete(first, RunPayload("FINISHED", 0, 1))
    (folder / "flow_outputs").mkdir()
    (folder / "flow_outputs" / "output.jsonl").write_text(f'{{"line_number": 7, "child_run_id": "{named}"}}\n')
    writer = ready(store, one)
    assert writer.existing.run_id(7) == named and writer.changes.removed == 1
    assert get(store, first).info.lifecycle_stage == "deleted"


def test_a_line_takes_three_requests(far: StoreWriter, proxy: CountingProxy, one: Batch) -> None:
    writer = ready(far, one)
    proxy.requests.clear()
    for number in range(5):
        writer.write(number, 100.0, None)
        write(writer, record(number))
        write(writer, record(number))
    assert proxy.counted() == {"runs/create": 5, "runs/log-batch": 5, "runs/update": 5}


@pytest.mark.parametrize("kind", ["runs/create", "runs/log-batch", "runs/update"])
def test_an_answer_that_gets_lost_makes_no_second_run(
    far: StoreWriter, proxy: CountingProxy, one: Batch, kind: str
) -> None:
    writer = ready(far, one)
    proxy.lost[kind] = 1
    with pytest.raises(TrackingDown):
        writer.write(7, 100.0, record())
    write(writer, record())
    writer.close_parent()
    child = next(run for run in shown(far, one.uid) if run["info"]["run_name"] == "Run 000000007")
    assert len(shown(far, one.uid)) == 2 and child["info"]["status"] == "FINISHED"
    writer.read_existing()
    assert writer.changes.removed == 0 and writer.existing.complete == {7: child["info"]["run_id"]}


@pytest.mark.parametrize("status", [400, 403, 413, 414, 422])
def test_a_line_that_does_not_get_through_a_proxy_is_that_line_s_trouble(
    far: StoreWriter, proxy: CountingProxy, one: Batch, status: int
) -> None:
    writer = ready(far, one)
    proxy.refused, proxy.refusal = b"too much", (status, b"<html>no</html>")
    big = record(7, spans=(), outputs={"joke": "too much"})
    write(writer, big, record(8))
    assert writer.close_parent().lines_completed == 2
    runs = {run.line_number: run.values for run in far.runs(one.uid)}
    assert f"answered {status}: no answer of MLflow's" in runs[7].tags[NOT_LOGGED]
    assert (runs[7].status, runs[8].status, runs[8].params["output"]) == ("FINISHED", "FINISHED", "Ha!")
    proxy.refused = None
    write(again := ready(far, one), big)
    assert (again.changes.completed, far.run(again.existing.complete[7]).values.params["output"]) == (1, "too much")


@pytest.mark.parametrize(("status", "kind"), [(413, TrackingDown), (403, TrackingForbidden)])
def test_a_proxy_that_lets_nothing_through_is_no_line_s_trouble(
    far: StoreWriter, proxy: CountingProxy, one: Batch, status: int, kind: type[TrackingError]
) -> None:
    writer = ready(far, one)
    proxy.refused, proxy.refusal = b"run_id", (status, b"<html>no</html>")
    with pytest.raises(kind):
        writer.write(7, 100.0, record())
    proxy.refused = None
    write(writer, record())
    assert writer.changes.refused == 0 and writer.existing.complete.keys() == {7}


@pytest.mark.parametrize("dies", [False, True])
def test_a_parent_whose_maker_got_no_answer_or_died_is_one_and_tells_all(
    far: StoreWriter, proxy: CountingProxy, one: Batch, dies: bool
) -> None:
    writer = BatchWriter(far, LocalSource(one))
    writer.read_existing()
    if dies:  # between the two requests
        proxy.refused = b"joke-flow"
    else:
        proxy.lost["runs/create"] = 1
    with pytest.raises(TrackingError):
        writer.open_parent()
    proxy.refused = None
    ready(far, one).close_parent()
    (parent,) = shown(far, one.uid)
    assert (parent["data"]["params"], parent["info"]["status"]) == ({"flow": "joke-flow"}, "FINISHED")
    again = ready(far, one)
    again.close_parent()
    assert not again.changes


def test_a_parent_whose_answer_got_lost_is_found_by_who_made_it(
    far: StoreWriter, proxy: CountingProxy, one: Batch
) -> None:
    writer = BatchWriter(far, LocalSource(one))
    writer.read_existing()
    proxy.lost["runs/create"] = 1
    with pytest.raises(TrackingDown):
        writer.open_parent()
    opened = writer.open_parent()
    assert [run["info"]["run_id"] for run in shown(far, one.uid)] == [opened]


class Unsure(StoreWriter):
    """A store whose requests fail as drawn: before they were done, or after."""

    faults: Iterator[str] = iter(())

    def _done(self, what: Callable[[], T]) -> T:
        fault = next(self.faults, "none")
        if fault == "before":
            raise TrackingDown("no answer")
        result = what()
        if fault == "after":
            raise TrackingDown("the answer got lost")
        return result

    def _create(self, *args: Any) -> str:
        return self._done(lambda: super(Unsure, self)._create(*args))

    def log(self, *args: Any) -> None:
        self._done(lambda: super(Unsure, self).log(*args))

    def end(self, *args: Any) -> None:
        self._done(lambda: super(Unsure, self).end(*args))

    def delete(self, *args: Any) -> None:
        self._done(lambda: super(Unsure, self).delete(*args))


def until_done(step: Callable[[], T]) -> T:
    while True:
        try:
            return step()
        except TrackingDown:
            continue


faults = st.lists(st.sampled_from(["none", "before", "after"]), max_size=25)


@given(faults, st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 6))
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
def test_whatever_gets_lost_each_line_has_one_complete_run(
    store: StoreWriter, drawn: list[str], numbers: list[int], dies_after: int
) -> None:
    unsure = Unsure(store.tracking_uri, "joke-flow", store._lock_dir)
    unsure.open_experiment()
    unsure.faults = iter(drawn)
    one = batch(uid=next(uids))
    left = numbers[:dies_after]
    for lines in (left, numbers):  # a first writer dies on its way, a second one does the rest
        writer = until_done(lambda: ready(unsure, one))
        for number in lines:
            until_done(partial(write, writer, record(number)))
        until_done(writer.read_existing)
        assert writer.changes.removed == 0  # no second run was made that had to be taken away
    until_done(writer.close_parent)
    runs = list(store.runs(one.uid))
    assert Counter(run.line_number for run in runs) == Counter({None, *numbers})
    assert all(
        run.is_complete and run.values.params.get("output") == "Ha!" for run in runs if run.line_number is not None
    )
    (parent,) = (run for run in runs if run.line_number is None)
    assert {run.parent_run_id for run in runs} == {None, parent.run_id}
    assert (parent.values.status, parent.values.params["flow"]) == ("FINISHED", "joke-flow")
    assert parent.values.metrics["lines_total"] == len(set(numbers))
