from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished import INPUTS, USAGE, call, joke_call, keep, llm_call, run_info
from promptflow.contracts.multimedia import Image
from promptflow.contracts.run_info import Status

from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.records.line import LineRecord, Span, Tokens
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.private_names import last_word
from pf_mlflow.sources.promptflow.spans import with_last_word


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc]


WRAPPED = {
    "message": "OpenAI API hits AuthenticationError: 401 - bad key [Error reference: …]",
    "type": "WrappedOpenAIError",
}
INNER = {"message": "401 - bad key", "type": "AuthenticationError"}


def the_line(folder: Path, info: dict[str, Any]) -> LineRecord:
    keep(folder, 0, info)
    (line,) = BatchFolder(folder).lines("uid", "b1")
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


@pytest.mark.parametrize(
    "answer, output, is_known", [([], [], False), ([], "A JOKE", True), ([{"choices": []}], [], True), ({}, [], True)]
)
def test_of_a_stream_that_went_on_promptflow_keeps_no_output(
    tmp_path: Path, answer: Any, output: Any, is_known: bool
) -> None:
    node = joke_call(output=output, children=[llm_call(output=answer)])
    line = the_line(tmp_path, run_info(0, node, call("py", 102.0, node_name="py", output=output)))
    assert [span.has_output for span in line.node_spans().values()] == [is_known, is_known]


@pytest.mark.parametrize("text", ["ü 東京 😀", "two\nlines\r\n", "line\u2028separator", "next\x85line", "a\x0c\x1cb\0"])
def test_text_of_any_kind(tmp_path: Path, text: str) -> None:
    assert the_line(tmp_path, run_info(0, output={"joke": text})).outputs == {"joke": text}


@pytest.fixture(params=["", "vision"])
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], str]:
    """An image as promptflow keeps it, in a file, and its name."""
    path = tmp_path / "of any name.png"
    path.write_bytes(b"png")
    kept: dict[str, Any] = {"data:image/png;path": str(path)}
    if request.param == "vision":
        kept = {"type": "image_file", "image_file": {"path": str(path)}}
    return kept, f"Image({hashlib.sha1(b'png').hexdigest()[:8]})"


def test_an_image_among_the_outputs_is_named_by_its_content(tmp_path: Path, picture: Any) -> None:
    kept, named = picture
    gone = {"data:image/png;path": str(tmp_path / "gone.png")}
    line = the_line(tmp_path, run_info(0, output={"picture": kept, "more": [{"of": kept}, gone, "text"]}))
    assert line.outputs == {"picture": named, "more": [{"of": named}, gone, "text"]}


def test_an_image_that_a_line_was_given_is_named_by_its_content(tmp_path: Path, picture: Any) -> None:
    kept, named = picture
    inputs = {"picture": kept, "history": [{"of": kept}, "text"]}
    node = call("look", 100.5, node_name="look", inputs={"one": kept}, output=[kept])
    info = run_info(0, inputs=inputs)
    info["api_calls"] = [call("flow", 100.0, type="Flow", inputs=inputs, children=[node])]
    line = the_line(tmp_path, info)
    assert line.inputs == {"picture": named, "history": [{"of": named}, "text"]}
    assert (line.node_spans()["look"].inputs, line.node_spans()["look"].output) == ({"one": named}, [named])


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept as a file", "in a worker of the pool"])
def test_an_image_in_a_running_flow_is_named_by_its_content(picture: Any, is_kept: bool) -> None:
    kept, named = picture
    seen, text = (f"data:image/png;base64,{base64.b64encode(content).decode()}" for content in (b"png", b"text"))
    spans = (
        Span("1", "flow", "Flow", 0.0, 1.0, inputs={"picture": seen}),
        Span("2", "look", "Function", 0.0, 1.0, "1", "look", {"one": [seen]}, seen, has_output=True),
        Span("3", "openai_chat", "LLM", 0.0, 1.0, "2", None, {"messages": [seen]}),
    )
    record = LineRecord("uid", 0, "Completed", 0.0, 1.0, {"picture": seen, "other": text}, spans=spans)
    given = {"picture": kept if is_kept else Image(b"png", mime_type="image/png"), "other": text}
    info = SimpleNamespace(
        status=Status.Completed, error=None, inputs=given, output=None, start_time=None, end_time=None
    )
    line = with_last_word(record, last_word(info))
    assert line.inputs == {"picture": named, "other": text}
    assert [span.inputs for span in line.spans] == [{"picture": named}, {"one": [named]}, {"messages": [seen]}]
    assert line.spans[1].output == named
