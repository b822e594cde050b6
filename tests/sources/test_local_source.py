from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from builders import batch
from finished import CREATED, EVALUATION_FLOW, finished_batch, home_with, joke_call, run_info

from pf_mlflow.records.source import BatchFacts, Provenance, Source
from pf_mlflow.sources.promptflow import life
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.run_record import batch_uid
from pf_mlflow.spool.processes import started_at

STARTED, ENDED = 1795240695.5, 1795240705.5


def source_of(home: Path, name: str = "b1") -> LocalSource:
    return LocalSource(batch(uid=batch_uid(home, name, CREATED), name=name, promptflow_home=str(home), client_pid=0))


def test_a_batch_that_is_over(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = finished_batch(home, [run_info(0, joke_call()), run_info(1)], display_name="Jokes")
    (folder / "flow_outputs").mkdir()
    (folder / "flow_outputs" / "output.jsonl").write_text('{"line_number": 0, "child_run_id": "r0"}\n')
    source: Source = source_of(home)
    assert source.facts() == BatchFacts("Jokes", STARTED, ENDED, "Completed")
    assert not source.is_running() and source.over_since() is not None
    assert [line.line_number for line in source.lines(lambda number: number > 0)] == [1]
    assert source.named_runs() == {0: "r0"}


def test_what_a_batch_was_made_of(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "rows.jsonl"
    data.write_text("{}\n")
    folder = finished_batch(home, [], data=str(data))
    made_of = source_of(home).provenance()
    assert (made_of.data, made_of.data_hash) == ("rows.jsonl", hashlib.sha256(b"{}\n").hexdigest()[:16])
    assert made_of.flow_hash and made_of.variant is None
    (folder / "snapshot" / "py.py").write_text("1")
    assert source_of(home).provenance() == replace(made_of, flow_hash=source_of(home).folder.flow_hash())
    assert source_of(home).provenance().flow_hash != made_of.flow_hash
    data.unlink()
    assert source_of(home).provenance().data is None


def test_data_may_be_a_folder(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "rows"
    data.mkdir()
    (data / "a.jsonl").write_text("{}\n")
    finished_batch(home, [], data=str(data))
    made_of = source_of(home).provenance()
    assert made_of.data == "rows" and made_of.data_hash
    (data / "b.jsonl").write_text("{}\n")
    assert made_of.data_hash != source_of(home).provenance().data_hash


@pytest.mark.parametrize(("written", "topics"), [(STARTED - 60, ["rain", None, "tea"]), (STARTED + 60, [None] * 3)])
def test_what_promptflow_could_not_convert_comes_from_the_data_unless_these_changed_since(
    tmp_path: Path, written: float, topics: list[str | None]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"topic": "rain"}\n{"other": 1}\n{"topic": "tea", "other": 2}\n')
    os.utime(data, (written, written))
    unread = [run_info(number, inputs=None, status="Failed", output=None, api_calls=None) for number in range(3)]
    dag = "inputs: {topic: {type: string}}\nnodes: []"
    finished_batch(tmp_path / "home", unread, dag=dag, data=str(data))
    assert [line.inputs.get("topic") for line in source_of(tmp_path / "home").lines()] == topics


def test_an_evaluation_names_its_base(tmp_path: Path) -> None:
    finished_batch(tmp_path / "home", [], dag=EVALUATION_FLOW, run="base")
    assert source_of(tmp_path / "home").facts().base_batch == "base"


@pytest.mark.parametrize("home", [None, "home"])
def test_a_batch_without_a_record_of_its_own(tmp_path: Path, home: str | None) -> None:
    if home:  # a later batch of the name
        home_with(tmp_path / home, {}, created_on="2027-01-01T00:00:00+00:00")
    source = LocalSource(batch(name="b1", client_pid=0, promptflow_home=home and str(tmp_path / home)))
    assert source.facts() == BatchFacts("b1") and source.provenance() == Provenance()
    assert not source.is_running() and source.over_since() is None  # its workers may still open lines
    assert list(source.lines()) == [] and source.named_runs() == {} and source.folder.count() == 0
    source.folder.log("nobody reads this")


def test_the_end_is_seen_when_promptflow_writes_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "_LOOK_EVERY", 1000.0)  # seconds: nothing but the write can tell
    home = tmp_path / "home"
    finished_batch(home, [], status="Running")
    uid, me = batch_uid(home, "b1", CREATED), psutil.Process()
    source = LocalSource(
        batch(uid=uid, name="b1", promptflow_home=str(home), client_pid=me.pid, client_started=started_at(me))
    )
    assert source.over_since() is None and source.over_since() is None
    time.sleep(0.02)  # file systems count time in steps
    home_with(home, {}, status="Completed")
    assert source.over_since() is not None
