"""What the data of a batch have besides its inputs, in the table of its lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from finished import joke_call, run_info

from pf_mlflow.records.masking import MASK

LONG = "y" * 7000
ROWS: list[dict[str, Any]] = [
    {"topic": "atom", "category": "physics", "tags": ["a", "b"], "more.dots": 1},
    {"topic": "fish", "category": None, "password": "hunter2hunter2"},
    {"topic": "bird", "category": LONG},
]
DAG = "inputs: {topic: {type: string}}\nnodes: [{name: joke, type: llm}]"


def desk_with(folder: Path, data: Path, is_changed: bool = False) -> Desk:
    """A batch over data that are older than it, unless they were changed since."""
    desk = Desk(folder / "desk")
    if data.exists() and not is_changed:
        os.utime(data, (0, 0))
    desk.leave("b1", [run_info(n, joke_call()) for n in range(3)], dag=DAG, data=str(data))
    return desk


def table(desk: Desk, **env: str) -> dict[int, dict[str, Any]]:
    desk.deliver("b1", **env)
    artifacts = desk.runs("b1")[""].info.artifact_uri
    read = json.loads(Path(artifacts.removeprefix("file://"), "results_table.json").read_text("utf-8"))
    rows = (dict(zip(read["columns"], row, strict=True)) for row in read["data"])
    return {row["line_number"]: {key: one for key, one in row.items() if key.startswith("data_")} for row in rows}


@pytest.mark.parametrize("mark", ["", "\ufeff", "\n"], ids=["plain", "byte order mark", "an empty line"])
def test_columns_that_are_no_input_stand_in_the_table(tmp_path: Path, mark: str) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(mark + "\n".join(map(json.dumps, ROWS)), "utf-8")
    shown = table(desk_with(tmp_path, data))
    assert shown[0] == {
        "data_category": "physics",
        "data_tags": ["a", "b"],
        "data_more_dots": 1,
        "data_password": None,
    }
    assert shown[1]["data_password"] == MASK and shown[1]["data_category"] is None
    cut = shown[2]["data_category"]
    assert len(cut) == 6000 and cut.endswith(" … [cut: 7000 characters, all of them in the data]")


def test_a_csv_file_has_its_other_columns_too(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("topic,category\natom,physics\nfish,\nbird,air\n")
    assert [row["data_category"] for row in table(desk_with(tmp_path, data)).values()] == ["physics", "", "air"]


def test_rows_that_were_changed_since_stand_beside_no_answer(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    assert set(map(len, table(desk_with(tmp_path, data, is_changed=True)).values())) == {0}


@pytest.mark.parametrize("content", ["all", "none"])
def test_no_text_and_no_file_no_columns(tmp_path: Path, content: str) -> None:
    data = tmp_path / "data.jsonl"
    if content == "none":
        data.write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    assert set(map(len, table(desk_with(tmp_path, data), PF_MLFLOW_CONTENT=content).values())) == {0}


def test_rows_that_cannot_be_read_take_no_table_away(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(ROWS[0]) + "\n{broken\n", "utf-8")
    assert table(desk_with(tmp_path, data))[0]["data_category"] == "physics"
