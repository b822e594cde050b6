"""Rows in memory are data too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.running.data_file import data_file
from pf_mlflow.sources.promptflow.private_names import data_rows

ROWS = [{"topic": "茶", "n": 1}, {"topic": "tea", "n": 2}]


@pytest.mark.parametrize("data", [ROWS, pd.DataFrame(ROWS), iter(ROWS)])
def test_rows_in_memory_become_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path))
    path = data_file(data)
    assert path and path.is_relative_to(tmp_path) and data_rows(path) == ROWS
    assert data_file(ROWS) == path and len(list(path.parent.iterdir())) == 1


def test_a_frame_keeps_every_digit_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path))
    day = pd.Timestamp("2026-01-02T03:04:05")
    columns = {"p": [1e-12, 0.12345678901234567], "day": [day, pd.NaT], "v": [[0.1], None], "n": pd.array([1, None])}
    path = data_file(pd.DataFrame(columns))
    assert path and [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"p": 1e-12, "day": "2026-01-02T03:04:05", "v": [0.1], "n": 1},
        {"p": 0.12345678901234567, "day": None, "v": None, "n": None},
    ]
    with pytest.raises(BadInput, match="two columns of one name"):
        data_file(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_files_stay_what_they_are() -> None:
    assert data_file("rows.jsonl") == Path("rows.jsonl") and data_file(None) is None


@pytest.mark.parametrize("data", [5, [1], {"topic": "tea"}, [{"topic": {1, 2}}]])
def test_what_is_no_data_is_told(data: Any) -> None:
    with pytest.raises(BadInput, match="cannot be used: give a file, a pandas frame|cannot be written as JSON"):
        data_file(data)
