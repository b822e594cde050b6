"""Columns of finished answers are found in every format that promptflow reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finished import finished_batch, home_with

from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.inputs import data_of, mapping_of, told_as_text
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record

_FILES = {
    "rows.csv": "answer,ground_truth\nyes,yes\nno,yes\n",
    "rows.tsv": "answer\tground_truth\nyes\tyes\nno\tyes\n",
    "rows.json": '[{"answer": "yes", "ground_truth": "yes"}, {"answer": "no", "ground_truth": "yes"}]',
    "rows.JSONL": '{"answer": "yes", "ground_truth": "yes"}\n{"answer": "no", "ground_truth": "yes"}\n',
    "rows.jsonl": '{"answer": "yes", "ground_truth": "yes"}\n{"answer": "no", "ground_truth": "yes"}\n',
}


@pytest.mark.parametrize("name", _FILES)
def test_columns_are_found_by_their_names_in_every_format(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.write_text(_FILES[name], "utf-8")
    mapping = mapping_of(None, data, {}, None, is_own=False)
    assert mapping == {"answer": "${data.answer}", "ground_truth": "${data.ground_truth}"}


def scored(folder: Path, monkeypatch: pytest.MonkeyPatch, data: Path) -> RunRecord:
    """A batch of two lines that was run on the answers of a file."""
    home, lines = folder / "home", folder / "home" / ".runs" / "b1"
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(home))
    lines.mkdir(parents=True)
    inputs = ({"text": text, "line_number": n} for n, text in enumerate(("yes", "no")))
    (lines / "inputs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in inputs), "utf-8")
    taken = {"output_path": str(lines), "column_mapping": {"text": "${data.answer}", "top_k": 5}}
    home_with(home, taken, name="b1", data=str(data))
    record = run_record(promptflow_home(), "b1")
    assert record
    return record


@pytest.mark.parametrize("name", [*_FILES, "folder/rows.csv"])
def test_a_batchs_own_data_are_taken_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = tmp_path / name
    data.parent.mkdir(exist_ok=True)
    data.write_text(_FILES[data.name], "utf-8")
    own = data if data.parent == tmp_path else data.parent
    assert data_of(scored(tmp_path, monkeypatch, own)) == (own, "")


def test_that_a_batchs_own_data_are_of_no_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone.csv"
    record = scored(tmp_path, monkeypatch, gone)
    assert data_of(record) == (None, f"{str(gone)!r}, which 'b1' was run on, is not there any more.")
    gone.write_text('answer,ground_truth\n"yes', "utf-8")
    data, why = data_of(record)
    assert data is None and str(gone) in why and "cannot be read" in why


@pytest.mark.parametrize(("name", "text"), [("rows.csv", 'a,b\n"x'), ("rows.json", "{"), ("rows.parquet", "no")])
def test_data_that_promptflow_cannot_read_are_named(tmp_path: Path, name: str, text: str) -> None:
    data = tmp_path / name
    data.write_text(text, "utf-8")
    with pytest.raises(BadInput, match=f"{name}' cannot be read"):
        mapping_of(None, data, {}, None, is_own=False)


def test_what_rows_lack_and_a_flow_of_somebodys_own_is_given_as_text_is_told(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [{"answer": "a", "truth": "b"}, {"answer": "a"}, {"answer": "a", "truth": None}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (told,) = told_as_text(data, {"answer": "${data.answer}", "right": "${data.truth}", "metrics": "[]"})
    assert told.startswith(
        f"2 rows of {str(data)!r}, as row 1, have nothing in the column 'truth': promptflow makes the"
    )
    assert "the text 'nan' of it for the input 'right'" in told


@pytest.mark.parametrize("is_there", [True, False])
def test_finished_answers_that_were_scored_are_the_answers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    home, data = tmp_path / "home", tmp_path / "rows.jsonl"
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(home))
    data.write_text(_FILES["rows.jsonl"], "utf-8")
    outputs = [{"line_number": n, "scores": [{"name": "f1", "value": 1}]} for n in range(2)]
    dag = "nodes: [{name: keep, source: {path: save_scores.py}}]\ninputs: {answer: {type: string}}"
    lines = finished_batch(home, [], "b1", dag)
    (lines / "flow_outputs").mkdir()
    (lines / "flow_outputs" / "output.jsonl").write_text("".join(json.dumps(one) + "\n" for one in outputs), "utf-8")
    inputs = ({"answer": text, "line_number": n} for n, text in enumerate(("yes", "no")))
    (lines / "inputs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in inputs), "utf-8")
    flow = str(tmp_path / "joke-flow")
    mapping = {"answer": "${data.answer}", "metrics": "f1"}
    home_with(home, {"output_path": str(lines), "flow_path": flow, "column_mapping": mapping}, data=str(data))
    record = run_record(promptflow_home(), "b1")
    given = {"answer": {}, "ground_truth": {}, "metrics": {}}
    if is_there:
        found = mapping_of(record, data, {}, given, is_own=True)
        assert found == {"answer": "${data.answer}", "ground_truth": "${data.ground_truth}"}
    else:
        with pytest.raises(BadInput, match="The answers of 'b1' are in the file that it was run on.*restore it"):
            mapping_of(record, None, {}, given, is_own=True)
