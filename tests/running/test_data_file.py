"""Rows in memory are data too."""

from __future__ import annotations

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


def test_files_stay_what_they_are() -> None:
    assert data_file("rows.jsonl") == Path("rows.jsonl") and data_file(None) is None


@pytest.mark.parametrize("data", [5, [1], {"topic": "tea"}, [{"topic": {1, 2}}]])
def test_what_is_no_data_is_told(data: Any) -> None:
    with pytest.raises(BadInput, match="cannot be used: give a file, a pandas frame|cannot be written as JSON"):
        data_file(data)
