from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from finished import EVALUATION_FLOW, FLOW, INPUTS, USAGE, call, finished_batch, joke_call, keep, llm_call, run_info

from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.records.line import LineRecord, Tokens
from pf_mlflow.sources.promptflow.batch_folder import (
    FlowNodes,
    flow_nodes,
    folder_lines,
    is_evaluation,
    lines_in_folder,
    named_runs,
    node_names,
)
from pf_mlflow.sources.promptflow.run_record import run_record


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc]


WRAPPED = {
    "message": "OpenAI API hits AuthenticationError: 401 - bad key [Error reference: …]",
    "type": "WrappedOpenAIError",
}
INNER = {"message": "401 - bad key", "type": "AuthenticationError"}


def the_line(folder: Path, info: dict[str, Any]) -> LineRecord:
    keep(folder, 0, info)
    (line,) = folder_lines("uid", "b1", folder)
    return line


def test_a_completed_line(tmp_path: Path) -> None:
    line = the_line(tmp_path, run_info(0, joke_call(), call("py", 101.5, node_name="py", output=None)))
    assert (line.batch_uid, line.line_number, line.status, line.run_name) == ("uid", 0, "Completed", "b1")
    assert (line.start, line.end) == (utc(2026, 11, 21, 5, 58, 18, 191448), utc(2026, 11, 21, 5, 58, 20, 691448))
    assert (line.inputs, line.outputs) == ({"topic": "atom"}, {"joke": "Ha!"})
    assert (line.error, line.error_type, line.copied_from) == (None, None, None)
    node = line.node_spans()["joke"]
    assert (node.inputs, node.output, node.start, node.end) == (INPUTS, "Ha!", 100.25, 101.25)
    (llm,) = line.llm_calls(node)
    assert (llm.kind, llm.tokens, llm.model) == ("LLM", Tokens(11, 7, 18), "fake-1")
    assert line.node_spans()["py"].has_output
    payload = line_payload(line, "b1")
    assert payload.params == {"run_display_name": "b1", "input_model": "m", "input_topic": "atom", "output": "Ha!"}
    assert payload.metrics == {"duration": 1.0, "line_duration": 2.5, **USAGE}


def failed(message: str, kind: str, code: str = "UserError") -> dict[str, Any]:
    return {"message": message, "code": code, "debugInfo": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    "error, nodes, expected",
    [
        (
            failed("Execution failure in 'py': (ValueError) boom!", "ToolExecutionError"),
            [call("py", 1.0, node_name="py", error={"message": "boom!", "type": "ValueError"})],
            ("ValueError", "boom!"),
        ),
        (
            failed(WRAPPED["message"], WRAPPED["type"]),
            [call("joke", 1.0, node_name="joke", error=WRAPPED, children=[llm_call(output=None, error=INNER)])],
            ("AuthenticationError", "401 - bad key"),
        ),
        (
            failed("Line 0 timed out", "LineExecutionTimeoutError"),
            [],
            ("LineExecutionTimeoutError", "Line 0 timed out"),
        ),
        ({"message": "no", "code": "SystemError"}, [], ("SystemError", "no")),
        ({"message": "no"}, [], ("Error", "no")),
    ],
)
def test_a_failed_line(
    tmp_path: Path, error: dict[str, Any], nodes: list[dict[str, Any]], expected: tuple[str, str]
) -> None:
    line = the_line(tmp_path, run_info(0, *nodes, status="Failed", error=error, output=None))
    assert (line.status, line.outputs) == ("Failed", {})
    assert (line.error_type, line.error) == expected
    assert not any(span.has_output for span in line.node_spans().values())


@pytest.mark.parametrize(
    "changes",
    [
        {"api_calls": None},
        {"api_calls": []},
        {"api_calls": [call("flow", 100.0, children=None, inputs=None)]},
        {"inputs": None, "output": None},
        {"end_time": None, "status": "Running"},
    ],
)
def test_a_line_of_which_little_is_known(tmp_path: Path, changes: dict[str, Any]) -> None:
    line = the_line(tmp_path, run_info(0, **changes))
    assert line.node_spans() == {} and line.end >= line.start
    assert line_payload(line, "b1").params["run_display_name"] == "b1"


def test_a_line_copied_by_a_resumed_batch(tmp_path: Path) -> None:
    assert the_line(tmp_path, run_info(0, run_id="first_try_0")).copied_from == "first_try"


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, "none", [1]])
def test_a_call_that_told_no_usage(tmp_path: Path, usage: Any) -> None:
    node = call("py", 1.0, node_name="py", children=[llm_call(output={"model": "m", "usage": usage})])
    line = the_line(tmp_path, run_info(0, node))
    assert line.llm_calls(line.node_spans()["py"])[0].tokens is None


@pytest.mark.parametrize("text", ["ü 東京 😀", "two\nlines\r\n", "line\u2028separator", "next\x85line", "a\x0c\x1cb\0"])
def test_text_of_any_kind(tmp_path: Path, text: str) -> None:
    assert the_line(tmp_path, run_info(0, output={"joke": text})).outputs == {"joke": text}


def test_lines_come_in_order_without_those_that_were_being_written(tmp_path: Path) -> None:
    for number in (12, 3, 100, 7, 8):
        keep(tmp_path, number, run_info(number))
    artifacts = tmp_path / "flow_artifacts"
    half = (artifacts / "000000007_000000007.jsonl").read_text(encoding="utf-8")
    (artifacts / "000000007_000000007.jsonl").write_text(half[: len(half) // 2], encoding="utf-8")
    (artifacts / "000000008_000000008.jsonl").write_text(
        '{"line_number": 8, "run_info": {}}\n[]\n5\n', encoding="utf-8"
    )
    assert [line.line_number for line in folder_lines("uid", "b1", tmp_path)] == [3, 12, 100]
    assert list(folder_lines("uid", "b1", tmp_path / "nowhere")) == []
    assert (lines_in_folder(tmp_path), lines_in_folder(tmp_path / "nowhere")) == (5, 0)


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
    assert [line.line_number for line in folder_lines("uid", "b1", tmp_path, wanted)] == expected
    assert lines_in_folder(tmp_path) == 3 + 2


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
    assert named_runs(tmp_path) == expected


@pytest.mark.parametrize(
    "dag, base, expected",
    [(EVALUATION_FLOW, "base", True), (EVALUATION_FLOW, None, False), (FLOW, "base", False), (FLOW, None, False)],
)
@pytest.mark.parametrize("place", ["snapshot", "flow"])
def test_an_evaluation_has_a_base_and_sums_lines_up(
    tmp_path: Path, dag: str, base: str | None, expected: bool, place: str
) -> None:
    folder = finished_batch(tmp_path / "home", [], dag=dag, run=base)
    if place == "flow":  # a batch that has just begun has no snapshot
        (folder / "snapshot").rename(tmp_path / "moved")
        (tmp_path / "joke-flow" / "flow.dag.yaml").write_text(dag)
    record = run_record(tmp_path / "home", "b1")
    assert record and is_evaluation(record) == expected


def test_the_snapshot_tells_which_nodes_count(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    dag = "nodes: [{name: joke, type: llm}, {name: save, type: python, inputs: {record_nodes: [py]}}]"
    (tmp_path / "snapshot" / "flow.dag.yaml").write_text(dag)
    line = the_line(tmp_path, run_info(0))
    assert (line.named_nodes, line.llm_nodes) == (("py",), ("joke",))


VARIANTS = """
nodes:
- {name: rate, use_variants: true}
- {name: plain, type: python}
node_variants:
  rate: {default_variant_id: v0, variants: {v0: {node: {type: llm}}, v1: {node: {type: llm}}}}
"""


@pytest.mark.parametrize(
    "dag, expected",
    [
        (b"nodes: [{name: a, type: llm}, {name: b, type: python}]", FlowNodes(("a", "b"), ("a",), ())),
        (VARIANTS.encode(), FlowNodes(("rate", "plain"), ("rate",), ())),
        (b"nodes: [{name: a, inputs: {record_nodes: 'x, y'}}]", FlowNodes(("a",), (), ("x", "y"))),
        (b"nodes: [{name: a, inputs: {record_nodes: '${inputs.n}'}}]", FlowNodes(("a",), (), ())),
        (b"nodes: [{name: a, inputs: }]", FlowNodes(("a",), (), ())),
        (
            b"nodes: [{name: a, type: llm}, {name: b, type: llm, aggregation: true}]",
            FlowNodes(("a",), ("a",), (), aggregates=True),
        ),
        (
            b"nodes: [{name: keep, source: {path: nodes/save_scores.py}}, {name: sum, aggregation: true}]",
            FlowNodes(("keep",), (), (), aggregates=True, saves_scores=True),
        ),
        (b"nodes: []", FlowNodes()),
        (b"nodes:", FlowNodes()),
        (b"nodes: 5", FlowNodes()),
        (b"entry: flow:main", FlowNodes()),
        (b"- a list", FlowNodes()),
        (b"{", FlowNodes()),
        (b"", FlowNodes()),
        (b"nodes: [{name: \xe9t\xe9, type: llm}]", FlowNodes()),
        (None, FlowNodes()),
    ],
)
def test_flow_nodes(tmp_path: Path, dag: bytes | None, expected: FlowNodes) -> None:
    if dag is not None:
        (tmp_path / "flow.dag.yaml").write_bytes(dag)
    assert flow_nodes(tmp_path) == expected


@pytest.mark.parametrize(
    "value, expected",
    [
        (["joke", " py ", "", 5], ("joke", "py", "5")),
        ("joke, py,", ("joke", "py")),
        ("${inputs.nodes}", ()),
        ("", ()),
        ([], ()),
        (None, ()),
        (5, ()),
        ({"a": 1}, ()),
    ],
)
def test_node_names(value: object, expected: tuple[str, ...]) -> None:
    assert node_names(value) == expected
