from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finished import keep, run_info

from pf_mlflow.sources.promptflow.batch_folder import BatchFolder


def test_lines_come_in_order_without_those_that_were_being_written(tmp_path: Path) -> None:
    for number in (12, 3, 100, 7, 8):
        keep(tmp_path, number, run_info(number))
    artifacts = tmp_path / "flow_artifacts"
    half = (artifacts / "000000007_000000007.jsonl").read_text(encoding="utf-8")
    (artifacts / "000000007_000000007.jsonl").write_text(half[: len(half) // 2], encoding="utf-8")
    (artifacts / "000000008_000000008.jsonl").write_text(
        '{"line_number": 8, "run_info": {}}\n[]\n5\n', encoding="utf-8"
    )
    assert [line.line_number for line in BatchFolder(tmp_path).lines("uid", "b1")] == [3, 12, 100]
    assert list(BatchFolder(tmp_path / "nowhere").lines("uid", "b1")) == []
    assert (BatchFolder(tmp_path).count(), BatchFolder(tmp_path / "nowhere").count()) == (5, 0)


@pytest.mark.parametrize(
    "wanted, expected",
    [
        (lambda number: True, [0, 1, 2, 10, 11]),
        (lambda number: number % 2 == 0, [0, 2, 10]),
        (lambda number: number > 2, [10, 11]),
        (lambda number: False, []),
    ],
)
def test_only_wanted_lines_are_read_from_files_of_several(
    tmp_path: Path, wanted: Callable[[int], bool], expected: list[int]
) -> None:
    (tmp_path / "flow_artifacts").mkdir()
    for numbers in ([0, 1, 2], [10, 11]):
        lines = [json.dumps({"line_number": number, "run_info": run_info(number)}) for number in numbers]
        path = tmp_path / "flow_artifacts" / f"{numbers[0]:09}_{numbers[-1]:09}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [line.line_number for line in BatchFolder(tmp_path).lines("uid", "b1", wanted)] == expected
    assert BatchFolder(tmp_path).count() == 3 + 2


@pytest.mark.parametrize(
    "text, expected",
    [
        (b'{"line_number": 0, "child_run_id": "a"}\n{"line_number": 7, "child_run_id": "b"}\n', {0: "a", 7: "b"}),
        (b'{"line_number": 0, "child_run_id": ""}\n{"line_number": 7}\n', {}),
        (b'{"line_number": 0, "child_run_id": "a"}\n{"line_num', {}),
        (b"[]\n", {}),
        (b"\xe9", {}),
        (b"", {}),
        (None, {}),
    ],
)
def test_the_runs_that_outputs_name(tmp_path: Path, text: bytes | None, expected: dict[int, str]) -> None:
    if text is not None:
        (tmp_path / "flow_outputs").mkdir()
        (tmp_path / "flow_outputs" / "output.jsonl").write_bytes(text)
    assert BatchFolder(tmp_path).named_runs() == expected


def test_the_snapshot_tells_which_nodes_count(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    dag = "nodes: [{name: joke, type: llm}, {name: save, type: python, inputs: {record_nodes: [py]}}]"
    (tmp_path / "snapshot" / "flow.dag.yaml").write_text(dag)
    keep(tmp_path, 0, run_info(0))
    (line,) = BatchFolder(tmp_path).lines("uid", "b1")
    assert (line.named_nodes, line.llm_nodes) == (("py",), ("joke",))
