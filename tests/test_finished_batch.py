from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pf_mlflow.finished_batch import FlowNodes, batch_uid, flow_nodes, folder_lines, node_names, run_record
from pf_mlflow.payload import line_payload
from pf_mlflow.records import LineRecord, Tokens

CREATED = "2026-11-21T05:58:15.245744+00:00"
COLUMNS = (
    "name TEXT NOT NULL PRIMARY KEY, type TEXT, created_on TEXT NOT NULL, status TEXT NOT NULL, display_name TEXT, "
    "description TEXT, tags TEXT, properties TEXT, archived BOOLEAN, start_time TEXT, end_time TEXT, data TEXT, "
    "run_source TEXT, portal_url TEXT"
)


def home_with(home: Path, properties: dict[str, Any] | None, **values: Any) -> Path:
    """Make a promptflow home whose database knows the batch `b1`."""
    home.mkdir(parents=True, exist_ok=True)
    row = {"name": "b1", "type": "batch", "created_on": CREATED, "status": "Completed", "display_name": "b1", **values}
    row["properties"] = properties if properties is None else json.dumps(properties)
    with sqlite3.connect(home / "pf.sqlite") as db:
        db.execute(f"CREATE TABLE run_info ({COLUMNS})")
        db.execute(f"INSERT INTO run_info ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
    db.close()
    return home


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc]


def test_the_run_record_of_a_batch(tmp_path: Path) -> None:
    properties = {
        "flow_path": str(tmp_path / "flow"),
        "output_path": str(tmp_path / "b1"),
        "column_mapping": {"topic": "${data.topic}"},
        "system_metrics": {"duration": 4.7},
        "node_variant": "${joke.variant_1}",
        "run": "base",
    }
    times = {"start_time": "2026-11-21T05:58:15.490249+00:00", "end_time": "2026-11-21T06:58:20+01:00"}
    home = home_with(tmp_path / "home", properties, display_name="Nightly ü", data="/data/d.jsonl", **times)
    record = run_record(home, "b1")
    assert record
    assert (record.name, record.created_on, record.display_name) == ("b1", CREATED, "Nightly ü")
    assert record.start == utc(2026, 11, 21, 5, 58, 15, 490249)
    assert record.end == utc(2026, 11, 21, 5, 58, 20)
    assert (record.data, record.output_path) == ("/data/d.jsonl", tmp_path / "b1")
    assert (record.variant, record.base_batch) == ("${joke.variant_1}", "base")
    assert run_record(home, "b2") is None


def test_a_run_record_may_be_all_but_empty(tmp_path: Path) -> None:
    record = run_record(home_with(tmp_path / "100% #1 ü", None, display_name=None, status="NotStarted"), "b1")
    assert record and record.display_name == "b1"
    assert (record.start, record.end, record.flow_dir, record.output_path) == (None, None, None, None)


def test_there_is_no_record_where_promptflow_never_ran(tmp_path: Path) -> None:
    assert run_record(tmp_path, "b1") is None
    assert not (tmp_path / "pf.sqlite").exists()


@pytest.mark.parametrize(
    "status, expected",
    [
        ("Completed", "FINISHED"),
        ("Failed", "FAILED"),
        ("Canceled", "KILLED"),
        ("Running", None),
        ("Preparing", None),
        ("CancelRequested", None),
    ],
)
def test_the_status_of_the_parent_run(tmp_path: Path, status: str, expected: str | None) -> None:
    record = run_record(home_with(tmp_path, {}, status=status), "b1")
    assert record and record.mlflow_status == expected


@pytest.mark.parametrize(
    "flow_path, expected",
    [
        ("flow", "flow"),
        ("flow/flow.dag.yaml", "flow"),
        ("flow/flow.flex.yml", "flow"),
        ("flow/chat.prompty", "flow"),
        ("flow-v1.2", "flow-v1.2"),
    ],
)
def test_the_flow_s_folder(tmp_path: Path, flow_path: str, expected: str) -> None:
    (tmp_path / expected).mkdir()
    if flow_path != expected:
        (tmp_path / flow_path).touch()
    record = run_record(home_with(tmp_path / "home", {"flow_path": str(tmp_path / flow_path)}), "b1")
    assert record and record.flow_dir == tmp_path / expected


def test_a_batch_uid_tells_batches_of_one_name_apart(tmp_path: Path) -> None:
    told = [(tmp_path, "b1", CREATED), (tmp_path, "b2", CREATED), (tmp_path / "x", "b1", CREATED), (tmp_path, "b1", "")]
    uids = [batch_uid(*one) for one in told]
    assert len(set(uids)) == len(told) and uids == [batch_uid(*one) for one in told]
    assert all(len(uid) == 32 and uid.isalnum() for uid in uids)


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
INPUTS = {"prompt": "About {{topic}}", "model": "m", "topic": "atom", "_inputs_to_escape": ["topic"]}
WRAPPED = {
    "message": "OpenAI API hits AuthenticationError: 401 - bad key [Error reference: …]",
    "type": "WrappedOpenAIError",
}
INNER = {"message": "401 - bad key", "type": "AuthenticationError"}


def call(name: str, at: float, **changes: Any) -> dict[str, Any]:
    values = {"name": name, "type": "Function", "inputs": {}, "output": "ok", "start_time": at, "end_time": at + 1}
    return {**values, "error": None, "children": [], "node_name": None, **changes}


def llm_call(**changes: Any) -> dict[str, Any]:
    return call("openai_chat", 100.5, **{"type": "LLM", "output": {"model": "fake-1", "usage": USAGE}, **changes})


def run_info(number: int, *nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = {
        "run_id": f"b1_{number}",
        "status": "Completed",
        "error": None,
        "inputs": {"topic": "atom", "line_number": number},
        "output": {"joke": "Ha!"},
        "start_time": "2026-11-21T05:58:18.191448Z",
        "end_time": "2026-11-21T05:58:20.691448Z",
        "index": number,
        "api_calls": [call("flow", 100.0, type="Flow", node_name="flow", children=list(nodes))],
    }
    return {**values, **changes}


def keep(folder: Path, number: int, info: dict[str, Any]) -> None:
    """Write a line the way promptflow does: `json.dump(…, ensure_ascii=False)` into a file of its own."""
    path = folder / "flow_artifacts" / f"{number:09}_{number:09}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"line_number": number, "run_info": info}, ensure_ascii=False), encoding="utf-8")


def the_line(folder: Path, info: dict[str, Any]) -> LineRecord:
    keep(folder, 0, info)
    (line,) = folder_lines("uid", "b1", folder)
    return line


def test_a_completed_line(tmp_path: Path) -> None:
    joke = call("OpenAI.chat", 100.25, node_name="joke", inputs=INPUTS, output="Ha!", children=[llm_call()])
    line = the_line(tmp_path, run_info(0, joke, call("py", 101.5, node_name="py", output=None)))
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
        (b"nodes: [{name: a, type: llm}, {name: b, type: llm, aggregation: true}]", FlowNodes(("a",), ("a",), ())),
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
