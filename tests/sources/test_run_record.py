from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from finished import CREATED, EVALUATION_FLOW, FLOW, finished_batch, home_with

from pf_mlflow.sources.promptflow.run_record import batch_uid, run_record, run_records, seconds


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc]


def test_the_run_record_of_a_batch(tmp_path: Path) -> None:
    properties = {
        "flow_path": str(tmp_path / "flow"),
        "output_path": str(tmp_path / "b1"),
        "column_mapping": {"topic": "${data.topic}"},
        "system_metrics": {"duration": 4.7, "__pf__.lines.failed": 3},
        "node_variant": "${joke.variant_1}",
        "run": "base",
    }
    times = {"start_time": "2026-11-21T05:58:15.490249+00:00", "end_time": "2026-11-21T06:58:20+01:00"}
    home = home_with(tmp_path / "home", properties, display_name="Nightly ü", data="/data/d.jsonl", **times)
    record = run_record(home, "b1")
    assert record
    assert (record.name, record.created_on, record.display_name) == ("b1", CREATED, "Nightly ü")
    assert record.start == utc(2026, 11, 21, 5, 58, 15, 490249)
    assert record.end == utc(2026, 11, 21, 5, 58, 20)
    assert (record.data, record.output_path) == ("/data/d.jsonl", tmp_path / "b1")
    assert (record.variant, record.base_batch, record.lines_failed) == ("${joke.variant_1}", "base", 3)
    assert run_record(home, "b2") is None


def test_a_run_record_may_be_all_but_empty(tmp_path: Path) -> None:
    record = run_record(home_with(tmp_path / "100% #1 ü", None, display_name=None, status="NotStarted"), "b1")
    assert record and record.display_name == "b1"
    assert (record.start, record.end, record.flow_dir, record.output_path) == (None, None, None, None)
    assert record.lines_failed == 0


def test_there_is_no_record_where_promptflow_never_ran(tmp_path: Path) -> None:
    assert run_record(tmp_path, "b1") is None and run_records(tmp_path) == []
    assert not (tmp_path / "pf.sqlite").exists()
    (tmp_path / "pf.sqlite").touch()  # what is left of a disk that was full
    assert run_record(tmp_path, "b1") is None and run_records(tmp_path) == []


@pytest.mark.parametrize(
    "status, is_over",
    [
        ("Completed", True),
        ("Failed", True),
        ("Canceled", True),
        ("Running", False),
        ("Preparing", False),
        ("CancelRequested", False),
    ],
)
def test_a_batch_is_over_by_its_status(tmp_path: Path, status: str, is_over: bool) -> None:
    record = run_record(home_with(tmp_path, {}, status=status), "b1")
    assert record and record.is_over == is_over


@pytest.mark.parametrize(
    "flow_path, expected",
    [
        ("flow", "flow"),
        ("flow/flow.dag.yaml", "flow"),
        ("flow/flow.flex.yml", "flow"),
        ("flow/chat.prompty", "flow"),
        ("flow-v1.2", "flow-v1.2"),
    ],
)
def test_the_flow_s_folder(tmp_path: Path, flow_path: str, expected: str) -> None:
    (tmp_path / expected).mkdir()
    if flow_path != expected:
        (tmp_path / flow_path).touch()
    record = run_record(home_with(tmp_path / "home", {"flow_path": str(tmp_path / flow_path)}), "b1")
    assert record and record.flow_dir == tmp_path / expected


def test_a_batch_uid_tells_batches_of_one_name_apart(tmp_path: Path) -> None:
    told = [(tmp_path, "b1", CREATED), (tmp_path, "b2", CREATED), (tmp_path / "x", "b1", CREATED), (tmp_path, "b1", "")]
    uids = [batch_uid(*one) for one in told]
    assert len(set(uids)) == len(told) and uids == [batch_uid(*one) for one in told]
    assert all(len(uid) == 32 and uid.isalnum() for uid in uids)


def test_all_records_come_oldest_first(tmp_path: Path) -> None:
    for name, hour in (("late", 9), ("early", 5), ("mid", 7)):
        home_with(tmp_path, {}, name=name, created_on=f"2026-11-21T0{hour}:00:00+00:00")
    assert [record.name for record in run_records(tmp_path)] == ["early", "mid", "late"]


@pytest.mark.parametrize(
    "value, expected",
    [
        ("2026-11-21T05:58:18.191448Z", utc(2026, 11, 21, 5, 58, 18, 191448)),
        ("2026-11-21T06:58:18+01:00", utc(2026, 11, 21, 5, 58, 18)),
        ("", None),
        (None, None),
    ],
)
def test_seconds(value: str | None, expected: float | None) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    "dag, base, expected",
    [
        (EVALUATION_FLOW, "base", True),
        ("nodes: [{name: keep, source: {path: save_scores.py}}]", "base", True),
        (EVALUATION_FLOW, None, False),
        (FLOW, "base", False),
        (FLOW, None, False),
    ],
)
@pytest.mark.parametrize("place", ["snapshot", "flow"])
def test_an_evaluation_has_a_base_and_sums_lines_up_or_saves_scores(
    tmp_path: Path, dag: str, base: str | None, expected: bool, place: str
) -> None:
    folder = finished_batch(tmp_path / "home", [], dag=dag, run=base)
    if place == "flow":  # a batch that has just begun has no snapshot
        (folder / "snapshot").rename(tmp_path / "moved")
        (tmp_path / "joke-flow" / "flow.dag.yaml").write_text(dag)
    record = run_record(tmp_path / "home", "b1")
    assert record and record.is_evaluation() == expected
