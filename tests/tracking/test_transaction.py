"""Many lines in one transaction of a database: all of them are there afterwards, or none, and each once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from builders import batch, line_record
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from sqlalchemy import event

from pf_mlflow.delivery.retry_policy import CircuitBreaker, Deadline
from pf_mlflow.delivery.write_queue import QueuedLine, WriteQueue
from pf_mlflow.errors import TrackingDown, TrackingRefused
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.tracking.run_payload import RunPayload
from pf_mlflow.tracking.writer import StoreWriter

uids = (f"together{number}" for number in count())


class Unsure(StoreWriter):
    """A database that fails as drawn: within a transaction, when it is to be committed, or just after."""

    faults: Iterator[str] = iter(())

    @contextmanager
    def transaction(self) -> Iterator[Unsure]:
        self.fault = next(self.faults, "none")
        self.calls = 0
        with super().transaction() as runs:
            yield runs
            if self.fault == "at commit":
                raise TrackingDown("the disk is full")
        if self.fault == "answer lost":
            raise TrackingDown("the connection is gone")

    def complete(self, run_id: str, payload: RunPayload) -> None:
        self.calls += 1
        if self.fault == "third line" and self.calls == 3:
            raise TrackingDown("no answer")
        super().complete(run_id, payload)


@pytest.fixture(scope="module")
def store(fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Unsure:
    folder = tmp_path_factory.mktemp("together")
    shutil.copy(fresh_store, folder)
    store = Unsure(f"sqlite:///{folder}/mlflow.db", "joke-flow", folder)
    store.open_experiment()
    return store


def ready(store: StoreWriter) -> BatchWriter:
    one = batch(uid=next(uids))
    writer = BatchWriter(store, LocalSource(one))
    writer.read_existing()
    writer.open_parent()
    return writer


def children(writer: BatchWriter) -> list[Run]:
    where = f"tags.`promptflow.batch_uid` = '{writer.batch.uid}' AND tags.`promptflow.line_number` != ''"
    return list(MlflowClient(writer.store.tracking_uri).search_runs([writer.store.experiment_id], where))


def write(writer: BatchWriter, number: int, store: StoreWriter) -> LineWritten:
    record = line_record(batch_uid=writer.batch.uid, line_number=number)
    return writer.write(number, record.start, record, store)


def test_25_lines_are_one_commit(store: Unsure) -> None:
    writer, commits = ready(store), []
    engine = store._store.engine
    event.listen(engine, "commit", lambda connection: commits.append(1))
    with writer.transaction() as inside:
        for number in range(25):
            write(writer, number, inside)
        assert len(commits) <= 1  # the connection's settings
    assert len(commits) <= 2
    runs = children(writer)
    assert len(runs) == 25 and {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.data.params and run.data.metrics and run.data.tags["response_model"] for run in runs)


def test_a_call_that_is_refused_undoes_itself_alone(store: Unsure) -> None:
    writer = ready(store)
    with writer.transaction() as inside:
        run_id = write(writer, 0, inside).run_id
        with pytest.raises(TrackingRefused):
            inside.log(run_id, RunPayload("FINISHED", 0, 1, params={"a/../b": "x"}, tags={"late": "tag"}))
        write(writer, 1, inside)
    runs = {run.data.tags["promptflow.line_number"]: run.data for run in children(writer)}
    assert runs.keys() == {"0", "1"} and "late" not in runs["0"].tags
    assert runs["0"].params == runs["1"].params


def test_what_fails_leaves_nothing_and_is_written_once_in_the_end(store: Unsure) -> None:
    writer = ready(store)
    writer.write(0, 100.0, None)  # which shows as RUNNING
    with pytest.raises(TrackingDown), writer.transaction() as inside:
        write(writer, 0, inside)
        write(writer, 1, inside)
        raise TrackingDown("no answer")
    assert [run.info.status for run in children(writer)] == ["RUNNING"]
    assert not writer.existing.complete and sorted(writer.existing.incomplete) == [0]
    with writer.transaction() as inside:
        write(writer, 0, inside)
        write(writer, 1, inside)
    assert sorted(run.info.status for run in children(writer)) == ["FINISHED", "FINISHED"]


drawn = st.lists(st.sampled_from(["none", "third line", "at commit", "answer lost"]), max_size=3)


@given(drawn, st.integers(1, 40))
@settings(deadline=None, max_examples=3, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
def test_whatever_fails_each_line_has_one_complete_run(store: Unsure, faults: list[str], lines: int) -> None:
    writer = ready(store)
    store.faults = iter(faults)
    with WriteQueue.of(writer, CircuitBreaker(Deadline(1.0, lambda: None))) as queue:
        for number in range(lines):
            record = line_record(batch_uid=writer.batch.uid, line_number=number)
            queue.offer(QueuedLine(number, record.start, record))
        while not queue.is_idle:
            for _, written in queue.finished(0.05):
                writer.note(written)
    summary = writer.close_parent()
    runs = children(writer)
    assert sorted(int(run.data.tags["promptflow.line_number"]) for run in runs) == list(range(lines))
    assert {run.info.status for run in runs} == {"FINISHED"} and all(run.data.metrics for run in runs)
    assert (summary.lines_completed, summary.lines_failed) == (lines, 0)
    assert summary.tokens["total_tokens"] == sum(run.data.metrics["total_tokens"] for run in runs)
