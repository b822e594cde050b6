"""Completed lines of a batch that was killed stand beside new ones only if its flow and its rows are the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from finished import TIMES, home_with

from pf_mlflow.errors import BadInput
from pf_mlflow.running.resume import check_unchanged
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record


@pytest.fixture
def killed(tmp_path: Path) -> RunRecord:
    """A batch that was killed an hour after its start: its last line ended then, and its flow was not copied."""
    folder, flow = tmp_path / ".runs" / "b1", tmp_path / "flow"
    (folder / "flow_artifacts").mkdir(parents=True)
    flow.mkdir()
    properties = {"output_path": str(folder), "flow_path": str(flow)}
    record = run_record(home_with(tmp_path, properties, **TIMES), "b1")
    assert record and record.start
    line = folder / "flow_artifacts" / "000000000_000000000.jsonl"
    line.touch()
    os.utime(line, 2 * (record.start + 3600,))
    return record


@pytest.mark.parametrize(
    ("name", "after", "is_told"),
    [
        ("shout.py", -1, False),
        ("shout.py", 60, True),
        ("prompt.txt", 60, False),  # a line of the batch wrote it
        ("config.json", 60, False),
        ("prompt.txt", 3600 + 60, True),
        ("config.json", 3600 + 60, True),
    ],
)
def test_of_a_flow_that_was_not_copied_the_times_tell(killed: RunRecord, name: str, after: int, is_told: bool) -> None:
    assert killed.flow_dir and killed.start
    (killed.flow_dir / name).touch()
    os.utime(killed.flow_dir / name, 2 * (killed.start + after,))
    if not is_told:
        check_unchanged(killed, {})
        return
    with pytest.raises(BadInput, match=f"{name} changed since"):
        check_unchanged(killed, {})


@pytest.mark.parametrize(("mark", "is_told"), [("", False), ("environment_variables: {LOUD: 1}", True)])
def test_what_promptflow_adds_to_its_copy_of_a_flex_flow_is_no_change(
    killed: RunRecord, mark: str, is_told: bool
) -> None:
    assert killed.flow_dir
    killed.flow_copy.mkdir()
    for folder, more in ((killed.flow_dir, mark), (killed.flow_copy, "inputs: {topic: {type: string}}")):
        (folder / "flow.flex.yaml").write_text(f"entry: shout:shout\n{more}\n")
    if not is_told:
        check_unchanged(killed, {})
        return
    with pytest.raises(BadInput, match="flow.flex.yaml changed since"):
        check_unchanged(killed, {})
