from __future__ import annotations

import json
import shutil
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from builders import batch, line_record, llm_node
from finished import CREATED, finished_batch, joke_call, keep, run_info

from pf_mlflow.delivery import reconcile
from pf_mlflow.delivery.reconcile import Reconciliation
from pf_mlflow.delivery.retry_policy import CircuitBreaker, Deadline
from pf_mlflow.delivery.spooled_batch import SpooledBatch
from pf_mlflow.delivery.write_queue import WriteQueue
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import FAILED, INTERRUPTED, Span
from pf_mlflow.records.masking import MASK
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.run_payload import LAST_OUTPUT, NOT_LOGGED, RunPayload
from pf_mlflow.tracking.writer import StoreWriter

names = (f"b{number}" for number in count(1))


@pytest.fixture(scope="module")
def store(fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreWriter:
    folder = tmp_path_factory.mktemp("mending")
    shutil.copy(fresh_store, folder)
    store = StoreWriter(f"sqlite:///{folder}/mlflow.db", "joke-flow", folder)
    store.open_experiment()
    return store


def queue_of(writer: BatchWriter) -> WriteQueue:
    """Each line by itself, not in a transaction, which overlooks a param that stands already."""
    write = lambda line, _: writer.write(line.line_number, line.opened, line.record)  # noqa: E731
    return WriteQueue(write, CircuitBreaker(Deadline(1.0, lambda: None)), 2)


class Left:
    """What is left of a batch: in the spool, in promptflow's folder, and in MLflow."""

    def __init__(self, store: StoreWriter, tmp_path: Path, in_folder: list[int]) -> None:
        name = next(names)
        home = tmp_path / "home"
        infos = [run_info(number, joke_call(output="from the folder")) for number in in_folder]
        self.folder = finished_batch(home, infos, name)
        self.batch: Batch = batch(uid=batch_uid(home, name, CREATED), name=name, promptflow_home=str(home))
        self.spool = Spool(tmp_path / "spool")
        self.spool.add_batch(self.batch)
        self.store = store
        self.watched: list[int] = []

    def keep(self, number: int, opened: float = 100.0, spans: tuple[Span, ...] = (), **changes: Any) -> None:
        record = line_record(
            *spans, **{"batch_uid": self.batch.uid, "line_number": number, "run_name": self.batch.name, **changes}
        )
        self.spool.complete_line(self.batch.uid, number, opened, record.to_json())

    def mend(self, rehearsed: bool = False) -> BatchWriter:
        writer = BatchWriter(self.store, LocalSource(self.batch))
        writer.read_existing()
        writer.open_parent()
        spooled = SpooledBatch(self.spool, self.batch.uid, rehearsed)
        with queue_of(writer) as queue:
            Reconciliation(writer, spooled, queue, lambda line, _: self.watched.append(line.line_number)).complete()
        writer.close_parent()
        return writer

    def children(self) -> dict[int, KnownRun]:
        runs = [run for run in self.store.runs(self.batch.uid) if run.line_number is not None]
        assert len({run.line_number for run in runs}) == len(runs)
        return {run.line_number: run for run in runs if run.line_number is not None}


def test_each_line_comes_from_who_knows_it_best(store: StoreWriter, tmp_path: Path) -> None:
    left = Left(store, tmp_path, in_folder=[0, 1, 2])
    left.keep(1)
    left.keep(3)
    left.spool.open_line(left.batch.uid, 2, 100.0)
    left.spool.open_line(left.batch.uid, 4, 100.0)
    writer = left.mend()
    children = left.children()
    assert [children[n].values.params.get("output") for n in range(5)] == [
        "from the folder",
        "Ha!",
        "from the folder",
        "Ha!",
        None,
    ]
    assert [children[n].values.tags.get("promptflow.error_type") for n in range(5)] == 4 * [None] + [INTERRUPTED]
    assert [children[n].values.status for n in range(5)] == 4 * ["FINISHED"] + ["FAILED"]
    assert children[1].values.tags[LAST_OUTPUT] == "from the folder"
    assert (left.spool.waiting(left.batch.uid), set(left.watched), writer.changes.made) == (0, {*range(5)}, 5)


def test_a_second_time_nothing_is_left_to_do(store: StoreWriter, tmp_path: Path) -> None:
    left = Left(store, tmp_path, in_folder=[0, 1])
    left.keep(2)
    left.spool.open_line(left.batch.uid, 3, 100.0)
    assert left.mend().changes.made == 4
    left.watched.clear()
    assert not left.mend().changes and left.watched == []


def test_a_run_left_running_is_completed_from_the_folder_or_else_ended(store: StoreWriter, tmp_path: Path) -> None:
    left = Left(store, tmp_path, in_folder=[0])
    parent = store.create_parent(left.batch, "b1", 100.0)
    ids = [store.create_child(left.batch, number, parent, 1.7e9) for number in range(2)]
    writer = left.mend()
    children = left.children()
    assert [children[n].run_id for n in range(2)] == ids and writer.changes.completed == 2
    assert [children[n].values.status for n in range(2)] == ["FINISHED", "FAILED"]
    assert children[1].values.tags["promptflow.error"] == f"{INTERRUPTED}: the batch ended before the line did"
    assert "line_duration" not in children[1].values.metrics
    values = children[1].values
    assert values.start_ms == 1.7e12 <= values.end_ms <= time.time() * 1000  # it ended no later than its batch


def test_what_was_cut_off_is_completed_when_its_record_turns_up(store: StoreWriter, tmp_path: Path) -> None:
    left = Left(store, tmp_path, in_folder=[])
    left.spool.open_line(left.batch.uid, 0, 100.0)
    left.mend()
    left.keep(0)
    writer = left.mend()
    (child,) = left.children().values()
    assert child.values.status == "FINISHED" and "promptflow.error" not in child.values.tags
    assert (writer.changes.completed, writer.changes.parent) == (1, "updated")


def test_more_lines_than_are_read_at_once(store: StoreWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PAGE", 3)
    left = Left(store, tmp_path, in_folder=[])
    for number in range(10):
        left.keep(number)
    left.mend()
    assert left.children().keys() == {*range(10)} and left.spool.waiting(left.batch.uid) == 0


def test_a_refused_record_stays_in_the_spool_and_the_folder_does_not_hide_it(
    store: StoreWriter, tmp_path: Path
) -> None:
    left = Left(store, tmp_path, in_folder=[0, 1])
    left.keep(0)
    parent = store.create_parent(left.batch, "b1", 100.0)
    run_id = store.create_child(left.batch, 0, parent, 100.0)
    writer = BatchWriter(store, LocalSource(left.batch))
    writer.read_existing()
    store.log(run_id, RunPayload("RUNNING", 0, 0, {"output": "somebody else's"}))  # which the writer does not know
    with queue_of(writer) as queue:
        Reconciliation(writer, SpooledBatch(left.spool, left.batch.uid), queue).complete()
    assert list(left.spool.refused(left.batch.uid)) == [0] and left.spool.waiting(left.batch.uid) == 1
    children = left.children()
    assert NOT_LOGGED in children[0].values.tags and children[0].is_over
    assert children[1].is_complete and writer.changes.refused == 1


def test_a_rehearsal_leaves_the_spool_as_it_is(store: StoreWriter, tmp_path: Path) -> None:
    left = Left(store, tmp_path, in_folder=[0, 1])
    left.keep(1)
    left.spool.open_line(left.batch.uid, 2, 100.0)
    left.store = StoreWriter(store.tracking_uri, "joke-flow", store._lock_dir, dry_run=True)
    left.store.open_experiment()
    writer = left.mend(rehearsed=True)
    assert writer.changes.made == 3 and sorted(left.watched) == [0, 1, 2]
    assert left.spool.waiting(left.batch.uid) == 2 and left.spool.unfinished(left.batch.uid) == {2: 100.0}
    assert left.children() == {}


class Slow(StoreWriter):
    """A store whose runs are made when the test says so."""

    def __init__(self, store: StoreWriter) -> None:
        super().__init__(store.tracking_uri, store.experiment, store._lock_dir)
        self.asked, self.may = threading.Event(), threading.Event()

    def create_child(self, *args: object) -> str:
        self.asked.set()
        assert self.may.wait(10)
        return super().create_child(*args)  # type: ignore[arg-type]


def test_a_line_that_ends_while_its_run_is_being_made_is_not_taken_for_delivered(
    store: StoreWriter, tmp_path: Path
) -> None:
    left = Left(store, tmp_path, in_folder=[])
    slow = Slow(store)
    slow.open_experiment()
    writer = BatchWriter(slow, LocalSource(left.batch))
    writer.read_existing()
    writer.open_parent()
    spooled = SpooledBatch(left.spool, left.batch.uid)
    left.spool.open_line(left.batch.uid, 0, 100.0)

    def look() -> None:
        for line in spooled.opened() + spooled.completed(10):
            queue.offer(line)

    def settle() -> LineWritten:
        ((line, written),) = queue.finished(5)
        writer.note(written)
        spooled.settle(line, written)
        spooled.flush()
        return written

    with queue_of(writer) as queue:
        look()
        assert list(queue.finished(0)) == [] and slow.asked.wait(10)
        left.keep(0)  # the line ends
        look()
        slow.may.set()
        assert not settle().is_over and left.spool.waiting(left.batch.uid) == 1
        look()
        assert settle().is_over and left.spool.waiting(left.batch.uid) == 0
    assert left.children()[0].values.params["output"] == "Ha!"


HANDED_ON = "nodes: [{name: joke, type: llm}]\noutputs: {joke: {reference: '${joke.output}'}}"
NO = {"message": "no JSON", "debugInfo": {"type": "FlowOutputUnserializable"}}


@pytest.mark.parametrize("outputs_written", [True, False], ids=["ended", "killed"])
def test_what_promptflow_decided_last_is_written(
    store: StoreWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs_written: bool
) -> None:
    """The others, in which nothing differs, cost no request."""
    left = Left(store, tmp_path, in_folder=[])
    (left.folder / "snapshot" / "flow.dag.yaml").write_text(HANDED_ON)
    long = "long " * 3000
    last: dict[int, tuple[str, dict[str, Any] | None]] = {
        0: ("Ha!", None),
        1: ("Ha!", NO),
        2: ("joined", None),
        3: ("Ha!", None),
        4: (long, None),
        5: ("Ha!", NO),
    }
    for number, (output, error) in last.items():
        changes = {"status": "Failed", "error": error, "output": None} if error else {"output": {"joke": output}}
        keep(left.folder, number, run_info(number, joke_call(output=output), **changes))
    if outputs_written:
        rows = [{"line_number": number, "joke": output} for number, (output, error) in last.items() if not error]
        (left.folder / "flow_outputs").mkdir()
        (left.folder / "flow_outputs" / "output.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in (0, 1, 2):
        left.keep(number, outputs={"joke": "Ha!"})
    left.keep(3, status=FAILED, outputs={}, error="late", error_type="LineExecutionTimeoutError")
    left.keep(4, spans=llm_node("joke", output=long), outputs={"joke": long})
    left.keep(5, status=FAILED, outputs={}, error="no JSON", error_type="FlowOutputUnserializable")
    asked: list[str] = []
    monkeypatch.setattr(store, "run", lambda run_id: asked.append(run_id) or StoreReader.run(store, run_id))
    for _ in range(2):
        writer = left.mend()
        runs = {number: run.values for number, run in left.children().items()}
        statuses = [runs[number].status for number in range(6)]
        assert statuses == ["FINISHED", "FAILED", "FINISHED", "FINISHED", "FINISHED", "FAILED"]
        errors = {number: run.tags["promptflow.error"] for number, run in runs.items() if run.status == "FAILED"}
        assert errors == dict.fromkeys([1, 5], "FlowOutputUnserializable: no JSON")
        assert [runs[number].tags.get(LAST_OUTPUT) for number in range(4)] == [None, None, "joined", None]
        assert [runs[number].params["output"] for number in range(4)] == ["Ha!"] * 4
        assert {run.metrics["line_duration"] for run in runs.values()} == {2.5}
        assert {run.end_ms for run in runs.values()} == {102_500}
        assert writer.existing.parent and writer.existing.parent.values.metrics["lines_failed"] == 2
        assert len(asked) == len({1, 2, 3})


def test_what_was_masked_by_who_knew_a_secret_stays(store: StoreWriter, tmp_path: Path) -> None:
    left = Left(store, tmp_path, in_folder=[])
    (left.folder / "snapshot" / "flow.dag.yaml").write_text(HANDED_ON)
    keep(left.folder, 0, run_info(0, joke_call(output="it is abc"), output={"joke": "it is abc"}))
    left.keep(0, spans=llm_node("joke", output=f"it is {MASK}"), outputs={"joke": MASK})
    left.mend()
    assert "abc" not in str(left.children()[0].values)
