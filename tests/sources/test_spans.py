from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from builders import any_text, json_values
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from pf_mlflow.records.line import LineRecord, Tokens
from pf_mlflow.sources.promptflow.spans import is_root, line_record, tokens_of

SECOND = 1_000_000_000
START = 4_000_000 * SECOND  # so that sums of seconds are exact


@dataclass
class Line:
    """A line's spans as promptflow 1.18 makes them, collected from their start; times in seconds after the line's."""

    spans: list[ReadableSpan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tracer = TracerProvider().get_tracer("promptflow")

    def start(self, name: str, below: Span | None, at: float, kind: str, **attributes: Any) -> Span:
        context = set_span_in_context(below) if below else None
        time = START + int(at * SECOND)
        span = self._tracer.start_span(name, context, attributes={"span_type": kind, **attributes}, start_time=time)
        assert isinstance(span, Span)
        self.spans.append(span)
        return span

    def root(self, **inputs: Any) -> Span:
        shown = json.dumps({**inputs, "line_number": 7})
        return self.start("joke-flow", None, 0, "Flow", batch_run_id="b1", line_number="7", inputs=shown)

    def node(self, name: str, below: Span, at: float, **more: Any) -> Span:
        return self.start(name, below, at, "Function", node_name=name, inputs='{"topic": "atom"}', **more)

    def call(self, below: Span, at: float) -> Span:
        return self.start("openai_chat", below, at, "LLM", inputs='{"model": "m"}')

    def record(self, **more: Any) -> LineRecord:
        return line_record("uid", 7, self.spans, **more)


def end(span: Span, at: float, output: Any = None, error: str | None = None, **attributes: Any) -> None:
    span.set_attributes(attributes)
    if error is None:
        span.set_attribute("output", json.dumps(output))
        span.set_status(StatusCode.OK)
    else:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(START + int(at * SECOND))


USAGE = {"llm.usage.prompt_tokens": 11, "llm.usage.completion_tokens": 7, "llm.usage.total_tokens": 18}


def test_a_span_of_an_endpoints_caller_does_not_hide_the_root() -> None:
    above = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
    line = Line()
    root = line.start("joke-flow", above, 0, "Flow", inputs='{"topic": "atom"}')
    node = line.node("joke", root, 0.25)
    end(node, 1, "Ha!")
    end(root, 2, {"joke": "Ha!"})
    assert [is_root(span) for span in (root, node)] == [True, False]
    record = line.record()
    assert (record.inputs, record.outputs, set(record.node_spans())) == ({"topic": "atom"}, {"joke": "Ha!"}, {"joke"})


def test_a_line_that_was_left_before_its_end_has_failed() -> None:
    line = Line()
    root = line.root(topic="atom")
    root.end()  # as it is when `SystemExit` goes through it
    assert (line.record().status, line.record().error_type) == ("Failed", "SystemExit")


def test_a_completed_line() -> None:
    line = Line()
    root = line.root(topic="atom")
    node = line.node("joke", root, 0.25, **{"prompt.template": "About {{topic}}"})
    call = line.call(node, 0.5)
    end(call, 1, {"model": "fake-1"}, **USAGE, **{"llm.response.model": "fake-1"})
    end(node, 1.25, "Ha!")
    end(line.node("py", root, 1.25), 1.5, None)
    end(root, 2, {"joke": "Ha!"})
    line.spans.append(line.spans.pop(0))  # the order they come in does not matter
    record = line.record(named_nodes=("joke",), run_name="b1")

    began = START / SECOND
    assert (record.batch_uid, record.line_number, record.status, record.run_name) == ("uid", 7, "Completed", "b1")
    assert (record.start, record.end, record.error, record.error_type) == (began, began + 2, None, None)
    assert (record.inputs, record.outputs) == ({"topic": "atom"}, {"joke": "Ha!"})
    assert [(span.name, span.kind, span.end) for span in record.spans] == [
        ("joke-flow", "Flow", began + 2),
        ("joke", "Function", began + 1.25),
        ("openai_chat", "LLM", began + 1),
        ("py", "Function", began + 1.5),
    ]
    nodes = record.node_spans()
    joke, py = nodes["joke"], nodes["py"]
    assert (joke.inputs, joke.output, joke.start) == ({"topic": "atom"}, "Ha!", began + 0.25)
    assert (py.output, py.has_output) == (None, True)
    (llm,) = record.llm_calls(joke)
    assert (llm.tokens, llm.model, llm.node) == (Tokens(11, 7, 18), "fake-1", None)
    assert LineRecord.from_json(record.to_json()) == record


def test_a_line_that_timed_out_has_calls_that_never_ended() -> None:
    line = Line()
    root = line.root(topic="atom")
    line.call(line.node("joke", root, 0.25), 0.5)
    end(root, 3, error="LineExecutionTimeoutError: Line 0 execution timeout for exceeding 3 seconds")
    record = line.record()
    assert (record.status, record.error_type) == ("Failed", "LineExecutionTimeoutError")
    assert record.error == "Line 0 execution timeout for exceeding 3 seconds"
    assert record.outputs == {}
    assert [(span.end is None, span.has_output) for span in record.spans] == [(False, False), (True, False)] + [
        (True, False)
    ]
    assert record.recorded_nodes() == ("joke",)


UNAUTHORISED = "Error code: 401 - bad key"
WRAPPED = f"OpenAI API hits AuthenticationError: {UNAUTHORISED} [Error reference: https://platform.openai.com]"


@pytest.mark.parametrize(
    "root, node, calls, expected",
    [
        (
            "ToolExecutionError: Execution failure in 'py': (ValueError) boom!",
            "ValueError: boom!",
            [],
            ("ValueError", "boom!"),
        ),
        (
            f"WrappedOpenAIError: {WRAPPED}",
            f"WrappedOpenAIError: {WRAPPED}",
            [f"AuthenticationError: {UNAUTHORISED}"],
            ("AuthenticationError", UNAUTHORISED),
        ),
        (  # an error that the node got over
            "ToolExecutionError: Execution failure in 'py': (ValueError) boom!",
            "ValueError: boom!",
            ["APITimeoutError: Request timed out.", None],
            ("ValueError", "boom!"),
        ),
        (  # one that has no message
            "ToolExecutionError: Execution failure in 'py': (ValueError) boom!",
            "ValueError: boom!",
            ["TimeoutError: ", None],
            ("ValueError", "boom!"),
        ),
        (
            "ToolExecutionError: Execution failure in 'py': (AssertionError) ",
            "AssertionError: ",
            [],
            ("AssertionError", ""),
        ),
        ("InputTypeError: b: a: c", None, [], ("InputTypeError", "b: a: c")),
        ("KeyboardInterrupt", None, [], ("KeyboardInterrupt", "")),
        (None, None, ["RateLimitError: 429", None], (None, None)),
        (None, "ValueError: handled", [], (None, None)),
    ],
)
def test_an_error_is_told_as_its_innermost_call_told_it(
    root: str | None, node: str | None, calls: list[str | None], expected: tuple[str | None, str | None]
) -> None:
    line = Line()
    top = line.root(topic="boom")
    middle = line.node("py", top, 0.1)
    for number, error in enumerate(calls):
        end(line.call(middle, 0.2 + number / 10), 0.3 + number / 10, "ok", error)
    end(middle, 0.9, "ok", node)
    end(top, 1, {"joke": "ok"}, root)
    record = line.record()
    assert record.status == ("Completed" if root is None else "Failed")
    assert (record.error_type, record.error) == expected
    assert record.outputs == ({"joke": "ok"} if root is None else {})


def test_a_failure_without_description() -> None:
    line = Line()
    root = line.root()
    root.set_status(StatusCode.ERROR)
    root.end()
    assert (line.record().status, line.record().error_type) == ("Failed", "Error")


@pytest.mark.parametrize(
    "kind, attributes, output, expected",
    [
        ("LLM", USAGE, {"usage": {"total_tokens": 99}}, Tokens(11, 7, 18)),
        ("LLM", {}, {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, Tokens(5, 2, 5 + 2)),
        ("LLM", {}, {"usage": None}, None),
        ("LLM", {}, "text", None),
        ("LLM", {}, ["streamed"], None),
        ("LLM", {}, [{"usage": None}, {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}], Tokens(5, 2, 5 + 2)),
        ("Function", {}, {"usage": {"total_tokens": 99}}, None),  # a tool's output may look the same
    ],
)
def test_tokens_of_a_call(kind: str, attributes: dict[str, Any], output: Any, expected: Tokens | None) -> None:
    line = Line()
    root = line.root()
    end(line.start("call", root, 0.1, kind), 0.2, output, **attributes)
    end(root, 1, {})
    assert line.record().spans[1].tokens == expected


CHUNKS: dict[str, list[dict[str, Any]]] = {
    "chat": [{"choices": [{"delta": {"content": word}}]} for word in ("a ", None, "joke")],
    "completion": [{"choices": [{"text": word}]} for word in ("a ", "", "joke")],
    "usage last": [{"choices": [{"delta": {"content": "a joke"}}]}, {"choices": [], "usage": {}}, {"choices": None}],
}


@pytest.mark.parametrize(
    "chunks, given, shown",
    [
        *((chunks, ["a ", "", "joke"], "a joke") for chunks in CHUNKS.values()),
        (CHUNKS["chat"], ["a joke", "another"], ["a joke", "another"]),  # a list that it made of it
        (CHUNKS["chat"], ["a ", 7], ["a ", 7]),
        ({"choices": [{"message": {"content": "a joke"}}]}, ["a ", "joke"], ["a ", "joke"]),
    ],
)
def test_a_streamed_answer_that_a_node_hands_on_is_text(chunks: Any, given: list[Any], shown: Any) -> None:
    line = Line()
    root = line.root()
    node = line.node("joke", root, 0.1)
    end(line.call(node, 0.2), 0.3, chunks)
    end(node, 0.4, given)
    end(root, 1, {"joke": "A JOKE"})
    assert line.record().node_spans()["joke"].output == shown


@pytest.mark.parametrize(
    "inputs, output, expected",
    [
        ('{"a": [1]}', '{"b": NaN}', ({"a": [1]}, ["b"])),
        ("not JSON", "not JSON", ({}, ["output"])),
        ("[1, 2]", '"text"', ({}, ["output"])),
        ('{"line_number": 3}', "{}", ({}, [])),
    ],
)
def test_attributes_of_any_shape(inputs: str, output: str, expected: tuple[dict[str, Any], list[str]]) -> None:
    line = Line()
    root = line.start("flow", None, 0, "Flow", inputs=inputs, output=output)
    root.set_status(StatusCode.OK)
    root.end()
    record = line.record()
    assert (record.inputs, list(record.outputs)) == expected
    assert record.spans[0].has_output


def usage(prompt: Any, completion: Any, total: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


@pytest.mark.parametrize(
    "counts, expected",
    [
        (usage(11, 7, 18), Tokens(11, 7, 18)),
        (usage(11, 7, 20), Tokens(11, 7, 20)),  # reasoning tokens: the answer's own sum counts
        (usage(11, 7, None), Tokens(11, 7, 11 + 7)),
        (usage(11, None, None), Tokens(11, None, None)),
        (usage(0, 0, 0), Tokens(0, 0, 0)),
        (usage(11.0, 7.0, 18.0), Tokens(11, 7, 18)),
        (usage(-1, "7", True), None),
        (usage(None, None, None), None),
        (usage(float("nan"), float("inf"), [1]), None),
        pytest.param(usage(10**400, 7, None), Tokens(None, 7, None), id="10**400"),
        ({"total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 3}}, Tokens(None, None, 18, 3)),
        ({}, None),
    ],
)
def test_tokens_of(counts: dict[str, Any], expected: Tokens | None) -> None:
    assert tokens_of(counts) == expected
    assert tokens_of({f"llm.usage.{key}": value for key, value in counts.items()}, "llm.usage.") == expected


@given(json_values | st.floats() | st.just(-(10**400)), json_values, json_values)
def test_tokens_of_tolerates_any_value(prompt: Any, completion: Any, total: Any) -> None:
    tokens = tokens_of(usage(prompt, completion, total))
    for count in (tokens.prompt, tokens.completion, tokens.total) if tokens else ():
        assert count is None or (type(count) is int and count >= 0)


@given(any_text, any_text)
def test_any_text_in_attributes_makes_a_record(inputs: str, output: str) -> None:
    line = Line()
    end(line.start("py", line.root(topic=inputs), 0.1, "Function", node_name="py", inputs=inputs), 1, output)
    end_root: Callable[..., None] = line.spans[0].end  # type: ignore[attr-defined]
    end_root()
    assert LineRecord.from_json(line.record().to_json()).node_spans().keys() == {"py"}
