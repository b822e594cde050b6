"""Inputs that nobody maps take the columns of their names, and it is said which do and which do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from machine import FLOWS, ROOT, Machine

from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.inputs import mapping_of
from pf_mlflow.running.mapping import columns_of, mapped_by_name, sources_of, tell_mapping
from pf_mlflow.running.observer import Observer
from pf_mlflow.sources.promptflow.flow import read_flow

INPUTS = {"topic": {"type": "string", "default": "atom"}, "style": {"default": "dry"}, "n": {}}


class Heard(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.mark.parametrize(
    ("given", "columns", "outputs", "base_data", "found"),
    [
        ({}, "topic n", "", "", {"topic": "${data.topic}", "n": "${data.n}"}),
        ({"topic": "${data.n}"}, "topic n", "", "", {"n": "${data.n}"}),
        ({"style": "wet"}, "other", "", "", {}),
        ({}, "n topic", "topic", "style n", {"topic": "${run.outputs.topic}", "style": "${run.inputs.style}", "n": "${data.n}"}),
        ({}, "", "line_number", "topic", {"topic": "${run.inputs.topic}"}),
    ],
)  # fmt: skip
def test_columns_of_an_inputs_name_are_mapped(
    tmp_path: Path, given: dict[str, str], columns: str, outputs: str, base_data: str, found: dict[str, str]
) -> None:
    for name, names in {"outputs": outputs, "base": base_data}.items():
        row = ", ".join(f'"{one}": 1' for one in names.split())
        (tmp_path / f"{name}.jsonl").write_text(f"{{{row}}}\n")
    sources = sources_of(columns.split(), tmp_path / "outputs.jsonl", str(tmp_path / "base.jsonl"))
    assert mapped_by_name(INPUTS, given, sources, None) == found


def test_a_column_that_some_lines_lack_is_no_column_of_all(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    data.write_bytes(b'\xef\xbb\xbf{"topic": "tea", "n": 1}\n\n{"n": 2}\n')
    with pytest.raises(BadInput, match="line 3 has no column 'topic'.*--column-mapping topic=VALUE"):
        mapped_by_name(INPUTS, {}, sources_of(columns_of(data)), data)
    assert mapped_by_name(INPUTS, {"topic": "tea"}, sources_of(columns_of(data)), data) == {"n": "${data.n}"}


def test_what_was_found_and_what_was_not_is_one_line_each() -> None:
    heard = Heard()
    tell_mapping(heard, INPUTS | {"long": {"default": "x" * 99}}, {"n": "5"}, {"topic": "${data.topic}"})
    assert heard.said == [
        "Mapped by name: topic=${data.topic}",
        f"Without column: style='dry', long='{'x' * 39}… on every line, the flow's default",
    ]
    tell_mapping(heard, {"topic": {}}, {"topic": "5"}, {})
    assert len(heard.said) == 2


@pytest.mark.parametrize(
    ("code", "entry", "inputs"),
    [
        ("def answer(kind, count: int = 3, *, how='a'): ...", "entry:answer", {"kind": {}, "count": {"default": 3}, "how": {"default": "a"}}),
        ("class A:\n    async def __call__(self, q, n=N): ...", "entry:A", {"q": {}, "n": {"default": "N"}}),
        ("def answer(**more): ...", "entry:answer", None),
        ("from elsewhere import answer", "entry:answer", None),
        ("def answer(:", "entry:answer", None),
        ("", "nowhere:answer", None),
    ],
)  # fmt: skip
def test_a_flex_flows_inputs_are_its_entrys_parameters(tmp_path: Path, code: str, entry: str, inputs: Any) -> None:
    (tmp_path / "entry.py").write_text(code)
    (tmp_path / "flow.flex.yaml").write_text(f"entry: {entry}\n")
    assert read_flow(tmp_path).inputs == inputs


def test_an_evaluation_flow_of_ones_own_finds_its_inputs_too(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"prediction": "yes", "truth": "no", "metrics": "x", "judge_model": "y"}\n')
    inputs: dict[str, Any] = {"prediction": {}, "truth": {"default": ""}, "metrics": {}, "judge_model": {}}
    assert mapping_of(None, data, {}, inputs, is_own=False) == {
        "prediction": "${data.prediction}",
        "truth": "${data.truth}",
    }


def test_no_batch_runs_on_defaults_while_its_data_have_the_column(machine: Machine) -> None:
    data = machine.data("by_name", [{"topic": "by name 1"}, {"topic": "by name 2"}])
    done = machine.command("pf-mlflow", "run", "--flow", str(ROOT), "--data", str(data), "--name", "by_name")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Mapped by name: topic=${data.topic}\n" in done.stdout
    assert [output["joke"] for output in machine.outputs("by_name")] == [f"a joke about by name {n}" for n in (1, 2)]


def test_a_flex_flows_default_is_no_trap_either(machine: Machine) -> None:
    data = machine.data("flexible", [{"kind": "dict", "count": 7}])
    words = ["run", "--flow", str(FLOWS / "plain_flex"), "--data", str(data), "--name", "flexible", "--json"]
    done = machine.command("pf-mlflow", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.outputs("flexible")[0]["count"] == 7 and "count=${data.count}" in done.stderr
