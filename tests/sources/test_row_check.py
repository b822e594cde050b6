"""Rows of an evaluation's data are those that the batch was run on, or are told not to be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from finished import home_with
from machine import Machine

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.row_check import wrong_rows

ROWS = [{"question": f"q{n}", "truth": f"t{n}"} for n in range(3)]
TAKEN = {"topic": "${data.question}", "tone": "polite"}


def batch(
    home: Path, mapping: dict[str, str] | None, inputs: list[dict[str, Any]], name: str = "b1", **more: Any
) -> None:
    folder = home / ".runs" / name
    folder.mkdir(parents=True)
    (folder / "inputs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in inputs))
    home_with(home, {"output_path": str(folder), "column_mapping": mapping, **more}, name=name)


def lines(*numbers: int) -> list[dict[str, Any]]:
    return [{"topic": f"q{n}", "tone": "polite", "line_number": n} for n in numbers]


def rows(folder: Path, given: list[dict[str, Any]]) -> Path:
    path = folder / "given.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


@pytest.mark.parametrize(
    ("inputs", "given", "wrong"),
    [
        (lines(0, 1, 2), ROWS, {}),
        (lines(0, 1, 2), [{**row, "more": 1} for row in ROWS], {}),
        (lines(0, 2), ROWS, {}),  # a line that is lacking moves no other one
        (lines(0, 1), ROWS, {}),
        (lines(0, 1, 2), ROWS[::-1], {0: '\'question\' is "q2" and was "q0"', 2: '"q0"'}),
        (lines(0, 1, 2), ROWS[:2], {2: "it is not there"}),
        (lines(0, 1), [{"truth": "t0"}, ROWS[1]], {0: "'question'"}),
        (lines(5, 7), [{"question": "q7", "line_number": 7}, {"question": "q5", "line_number": 5}], {}),
        (lines(0), [{"question": "Q0"}], {0: "Q0"}),
        ([{"topic": math.nan}, {"topic": [1, None]}], [{"question": None}, {"question": [1, None]}], {}),
        ([{"topic": {"data:image/png;path": "/a/b.png"}}], [{"question": {"data:image/png;path": "b.png"}}], {}),
    ],
)
def test_rows_are_compared_line_by_line(
    tmp_path: Path, inputs: list[dict[str, Any]], given: list[dict[str, Any]], wrong: dict[int, str]
) -> None:
    batch(tmp_path / "home", TAKEN, inputs)
    told = wrong_rows(tmp_path / "home", "b1", rows(tmp_path, given))
    assert told.keys() == wrong.keys()
    assert all(wrong[n] in told[n] and f"line {n} of 'b1'" in told[n] for n in wrong)


def test_of_a_batch_over_another_ones_outputs_that_one_counts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    batch(home, TAKEN, lines(0, 1, 2))
    batch(home, {"text": "${run.outputs.answer}"}, [{"text": "a", "line_number": 0}], "b2", run="b1")
    assert wrong_rows(home, "b2", rows(tmp_path, ROWS)) == {}
    assert wrong_rows(home, "b2", rows(tmp_path, ROWS[::-1])).keys() == {0, 2}


DAG = "inputs: {question: {type: string}, tone: {default: polite}}\nnodes: []"
PROMPTY = "---\nname: p\ninputs: {question: {type: string}, tone: {type: string, default: polite}}\n---\nsystem:\n"


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("flow.dag.yaml", DAG, ""),
        ("ask.prompty", PROMPTY, ""),
        ("flow.flex.yaml", "entry: ask:ask", "def ask(question, tone='polite'): ..."),
        ("flow.flex.yaml", "entry: ask:ask", "def ask(**values): ..."),
    ],
)
def test_inputs_that_nobody_mapped_came_from_columns_of_their_name(
    tmp_path: Path, file: str, text: str, code: str
) -> None:
    home = tmp_path / "home"
    tone = {} if "values" in code else {"tone": "polite"}
    batch(home, None, [{"question": f"q{n}", **tone, "line_number": n} for n in range(3)])
    snapshot = home / ".runs" / "b1" / "snapshot"
    snapshot.mkdir()
    (snapshot / file).write_text(text)
    (snapshot / "ask.py").write_text(code)
    properties = {"output_path": str(home / ".runs" / "b1"), "flow_path": file if "prompty" in file else None}
    home_with(home, properties, name="b1", data="rows.jsonl")
    assert wrong_rows(home, "b1", rows(tmp_path, [{**row, "tone": "rude"} for row in ROWS])) == {}
    assert wrong_rows(home, "b1", rows(tmp_path, ROWS[::-1])).keys() == {0, 2}


@pytest.mark.parametrize("mapping", [None, {"topic": "atom"}])
def test_what_nobody_can_tell_is_refused(tmp_path: Path, mapping: dict[str, str] | None) -> None:
    batch(tmp_path / "home", mapping, lines(0, 1, 2))
    with pytest.raises(BadInput, match="nothing says which columns"):
        wrong_rows(tmp_path / "home", "b1", rows(tmp_path, ROWS))
    with pytest.raises(BadInput, match="no batch 'nobody'"):
        wrong_rows(tmp_path / "home", "nobody", rows(tmp_path, ROWS))


TYPED = [
    {"s": 2026, "i": 3, "d": 0.83123456789123, "o": {"score": 0.12345678901234}, "date": "2024-01-02"},
    {"s": 0.5, "i": "7", "d": "1e3", "o": "[1, 2.50]", "date": "2024-05-06 07:08"},
    {"s": "true", "i": 7.0, "d": 1e-12, "o": "yes", "date": "2024-05-06"},
]
KINDS = {"s": "string", "i": "int", "d": "double", "o": "object", "date": "string"}


@pytest.fixture(scope="module")
def typed(machine: Machine) -> Path:
    """A batch over values that promptflow converts: its home."""
    flow = machine.folder / "typed"
    flow.mkdir()
    (flow / "echo.py").write_text("from promptflow.core import tool\n\n@tool\ndef echo(s):\n    return s\n")
    node = {"name": "echo", "type": "python", "source": {"type": "code", "path": "echo.py"}}
    dag = {
        "inputs": {name: {"type": kind} for name, kind in KINDS.items()},
        "outputs": {"answer": {"type": "string", "reference": "${echo.output}"}},
        "nodes": [{**node, "inputs": {"s": "${inputs.s}"}}],
    }
    (flow / "flow.dag.yaml").write_text(json.dumps(dag))
    words = ["--flow", str(flow), "--data", str(machine.data("typed", TYPED)), "--name", "typed"]
    done = machine.command("pf-mlflow", "run", *words, PF_MLFLOW_ENABLED="false")
    assert done.returncode == 0, done.stdout + done.stderr
    return machine.folder / "promptflow"


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ""),
        ({"s": "2026"}, ""),
        ({"s": 2026.0}, ""),  # in a column that another row lacks, a whole number has a point
        ({"s": 2027}, '\'s\' is "2027" and was "2026"'),
        ({"s": "2026-01-01"}, "'s'"),
        ({"d": 0.83123456789124}, "'d' is 0.83123456789124 and was 0.83123456789123"),
        ({"o": {"score": 0.12345678901235}}, "'o'"),
        ({"i": "3"}, ""),
        ({"i": 4}, "'i' is 4 and was 3"),
        ({"date": "2024-01-02T00:00:00"}, ""),
        ({"date": "2024-01-03"}, '\'date\' is "2024-01-03 00:00:00" and was "2024-01-02 00:00:00"'),
        ({"date": None}, "'date' is \"NaT\""),
    ],
)
def test_values_are_compared_as_promptflow_converts_them(
    typed: Path, tmp_path: Path, change: dict[str, Any], wrong: str
) -> None:
    told = wrong_rows(typed, "typed", rows(tmp_path, [{**TYPED[0], **change}, *TYPED[1:]]))
    assert told.keys() == ({0} if wrong else set()), told
    assert wrong in told.get(0, "")


@pytest.mark.parametrize(("number", "wrong"), [("2", set()), (2, set()), ("3", {0})])
def test_a_row_that_did_not_fit_was_kept_as_it_is(tmp_path: Path, number: Any, wrong: set[int]) -> None:
    batch(tmp_path / "home", {"i": "${data.i}", "b": "${data.b}"}, [{"i": "2", "b": "yes"}])
    snapshot = tmp_path / "home" / ".runs" / "b1" / "snapshot"
    snapshot.mkdir()
    (snapshot / "flow.dag.yaml").write_text("inputs: {i: {type: int}, b: {type: bool}}\nnodes: []\n")
    assert wrong_rows(tmp_path / "home", "b1", rows(tmp_path, [{"i": number, "b": "yes"}])).keys() == wrong
