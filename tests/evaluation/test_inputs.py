"""Columns of finished answers are found in every format that promptflow reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pf_mlflow.evaluation.inputs import mapping_of

_FILES = {
    "rows.csv": "answer,ground_truth\nyes,yes\nno,yes\n",
    "rows.tsv": "answer\tground_truth\nyes\tyes\nno\tyes\n",
    "rows.json": '[{"answer": "yes", "ground_truth": "yes"}, {"answer": "no", "ground_truth": "yes"}]',
    "rows.jsonl": '{"answer": "yes", "ground_truth": "yes"}\n{"answer": "no", "ground_truth": "yes"}\n',
}


@pytest.mark.parametrize("name", _FILES)
def test_columns_are_found_by_their_names_in_every_format(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.write_text(_FILES[name], "utf-8")
    mapping = mapping_of(None, data, {}, None, is_own=False)
    assert mapping == {"answer": "${data.answer}", "ground_truth": "${data.ground_truth}"}
