from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import any_text, batch, json_text, json_values, line_record, llm_node, span
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.protos.service_pb2 import LogBatch
from mlflow.utils import validation
from mlflow.utils.proto_json_utils import message_to_json

from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.records.keys import readable
from pf_mlflow.records.line import FAILED, LineRecord, Tokens
from pf_mlflow.tracking.known_run import batch_tags, child_name, child_tags
from pf_mlflow.tracking.run_payload import PARAM_LIMIT, TAG_LIMIT, RunPayload, milliseconds, requests_of

HUGE = ["文" * 200_000, "😀" * 200_000, "\0" * 200_000, "\ud800" * 200_000]


def assert_valid(payload: RunPayload, param_limit: int = PARAM_LIMIT) -> None:
    """Hold a payload against MLflow's own rules; MLflow would cut long values without a word."""
    for key, value in payload.params.items():
        assert validation._validate_param(key, value).value == value
        assert len(value) <= param_limit
    for key, value in payload.tags.items():
        assert validation._validate_tag(key, value).value == value
        assert len(value) <= TAG_LIMIT
    for key, number in payload.metrics.items():
        validation._validate_metric(key, number, payload.end_ms, 0)
    for path, text in payload.texts.items():
        assert not validation.path_not_unique(path)
        assert path.endswith(".txt") and len(Path(path).name.encode()) <= 255  # what MLflow shows, what disks take
        assert "\0" not in text and text.encode()


texts = any_text | st.sampled_from(HUGE) | st.sampled_from(["", ".", "..", "../a", "/", "a/b", " ", "ü" * 251, "\n"])
names = json_text | st.sampled_from([".", "..", "../a", "/a", "a//b", " ", "", "a:b", "a" * 251, "質" * 300])
values = json_values | st.sampled_from(HUGE)


@given(st.dictionaries(names, values, max_size=4), names, values, texts, st.sampled_from([PARAM_LIMIT, 500]))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_record_makes_a_run_that_mlflow_takes(
    inputs: Mapping[str, Any], node: str, output: Any, text: str, limit: int
) -> None:
    spans = [
        part for name in (node or "n", f"{node}!") for part in llm_node(name, inputs=inputs, output=output, end=None)
    ]
    record = line_record(*spans, inputs=inputs, outputs={"o": output}, error=text, error_type=text, status=FAILED)
    payload = line_payload(record, text, limit)
    assert_valid(payload, limit)
    shown = sum(name != "prompt" and not name.startswith("_") for name in inputs)
    assert len(payload.params) == 1 + 2 * (shown + 1) + len(inputs) + 1
    assert_valid(line_payload(line_record(span("py"), inputs=inputs, outputs={}), text, limit), limit)


@pytest.mark.parametrize(
    "keys",
    [
        ("a" * 300 + "?", "a" * 300 + "!"),
        ("a" * 249 + "?", "a" * 249 + "!"),
        ("質問", "文脈"),
        ("input x", "input x", "input x"),
        ("..", "."),
    ],
    ids=["long", "just fitting", "cjk", "equal", "dots"],
)
def test_keys_that_become_the_same_stay_apart(keys: tuple[str, ...]) -> None:
    payload = RunPayload("FINISHED", 0, 0)
    for number, key in enumerate(keys):
        payload.add_param(key, f"{number}" * 10_000)
    assert [value[0] for value in payload.params.values()] == [str(n) for n in range(len(keys))]
    assert list(payload.texts.values()) == [str(n) * 10_000 for n in range(len(keys))]
    assert_valid(payload)


@pytest.mark.parametrize(
    "length, limit, cut",
    [(6000, 6000, False), (6001, 6000, True), (200_000, 6000, True), (500, 500, False), (501, 500, True)],
)
def test_a_long_value_is_cut_with_a_mark_and_kept_whole(length: int, limit: int, cut: bool) -> None:
    payload = RunPayload("FINISHED", 0, 0)
    text = (string.ascii_letters * (length // 52 + 1))[:length]
    payload.add_param("output", text, limit)
    value = payload.params["output"]
    assert payload.texts == ({"long_values/output.txt": text} if cut else {})
    if cut:
        head, mark = value.split(" … ")
        assert mark == f"[cut: {length} characters, all of them in the artifact long_values/output.txt]"
        assert len(value) == limit and text.startswith(head)
    else:
        assert value == text


@pytest.mark.parametrize(
    "value, expected",
    [
        ("plain", "plain"),
        ("", ""),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        ({"a": "ü", "b": [1, None]}, '{"a": "ü", "b": [1, null]}'),
        (("a", Path("x")), '["a", "x"]'),
        ("a\0b", "a␀b"),
        ({"a": "\0"}, '{"a": "\\u0000"}'),
        ("\ud800!", "\\ud800!"),
        (["\udfff"], '["\\udfff"]'),
        ("😀", "😀"),
    ],
)
def test_readable(value: Any, expected: str) -> None:
    assert readable(value) == expected


@given(json_values | any_text)
def test_readable_text_is_utf8_without_nul(value: Any) -> None:
    text = readable(value)
    assert "\0" not in text and text.encode().decode() == text


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.0, {"x": 0.0}),
        (3, {"x": 3.0}),
        (None, {}),
        (float("nan"), {}),
        (float("-inf"), {}),
        pytest.param(10**400, {}, id="10**400"),
    ],
)
def test_a_metric_is_absent_where_its_value_is_unknown(value: Any, expected: dict[str, float]) -> None:
    payload = RunPayload("FINISHED", 0, 0)
    payload.add_metric("x", value)
    assert payload.metrics == expected


def request_json(part: RunPayload) -> str:
    params = [Param(key, value).to_proto() for key, value in part.params.items()]
    tags = [RunTag(key, value).to_proto() for key, value in part.tags.items()]
    metrics = [Metric(key, value, 1_700_000_000_000, 0).to_proto() for key, value in part.metrics.items()]
    return str(message_to_json(LogBatch(run_id="a" * 32, params=params, tags=tags, metrics=metrics)))


repeated = st.builds(lambda char, times: char * times, st.characters(codec="utf-8"), st.integers(0, 6000))


@given(st.dictionaries(st.text(string.ascii_letters, max_size=250), repeated, max_size=150), st.integers(0, 2_500))
@example({f"key {n}": "😀" * 6000 for n in range(60)}, 900)
@example({f"{n:0250}": "" for n in range(301)}, 0)
@example({}, 2_500)
@example({}, 0)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_requests_stay_within_mlflow_s_limits_and_lose_nothing(texts: dict[str, str], numbers: int) -> None:
    metrics = {f"{number:0200}": number / 7 for number in range(numbers)}
    parts = list(requests_of(RunPayload("", 0, 0, texts, metrics, texts)))
    for kind, values in (("params", texts), ("tags", texts), ("metrics", metrics)):
        assert [item for part in parts for item in getattr(part, kind).items()] == list(values.items())
    for part in parts:
        assert part.params or part.tags or part.metrics
        validation._validate_batch_log_limits(part.metrics, part.params, part.tags)
        validation._validate_batch_log_api_req(request_json(part))


INPUTS = {"input_model": "m", "input_topic": "atom"}
CALL = {"prompt_tokens": 11.0, "completion_tokens": 7.0, "total_tokens": 18.0}


def prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in values.items()}


def test_one_llm_node_makes_the_run() -> None:
    payload = line_payload(line_record(), "nightly")
    assert payload == RunPayload(
        "FINISHED",
        100_000,
        102_500,
        {"run_display_name": "nightly", **INPUTS, "output": "Ha!"},
        {**CALL, "duration": 102.0 - 100.5, "line_duration": 102.5 - 100.0},
        {"response_model": "fake-1"},
    )


def test_several_llm_nodes_bear_their_names_and_the_line_none() -> None:
    payload = line_payload(line_record(*llm_node("joke"), *llm_node("rate", start=101.0)), "nightly")
    of_node = [*prefixed("joke", INPUTS), *prefixed("rate", INPUTS)]
    assert [*payload.params] == ["run_display_name", "input_topic", *of_node, "joke.output", "rate.output", "output"]
    assert (payload.params["input_topic"], payload.params["output"]) == ("atom", "Ha!")
    assert payload.metrics == {
        **prefixed("joke", CALL | {"duration": 102.0 - 100.5}),
        **prefixed("rate", CALL | {"duration": 102.0 - 101.0}),
        "prompt_tokens": 11 + 11,
        "completion_tokens": 7 + 7,
        "total_tokens": 18 + 18,
        "duration": 102.0 - 100.5,
        "line_duration": 2.5,
    }


@pytest.mark.parametrize(
    "times, seconds",
    [
        ([(100.5, 101.0), (101.5, 102.0)], 0.5 + 0.5),
        ([(100.5, 102.0), (101.0, 101.5), (101.0, 102.25)], 102.25 - 100.5),
        ([(100.5, 101.0), (101.0, None)], 102.5 - 100.5),
        ([(101.0, 100.5), (101.0, 102.0)], None),
    ],
    ids=["with a pause", "at once", "one that had not ended", "a clock that was set back"],
)
def test_of_several_nodes_the_time_counts_in_which_one_ran(
    times: list[tuple[float, float | None]], seconds: float | None
) -> None:
    nodes = [llm_node(f"n{number}", start=start, end=end) for number, (start, end) in enumerate(times)]
    payload = line_payload(line_record(*(part for node in nodes for part in node)), "nightly")
    assert payload.metrics.get("duration") == seconds


def test_a_flow_s_inputs_that_do_not_reach_the_node_are_shown() -> None:
    inputs = {"topic": "atom", "customer": "Ada", "model": "of the flow"}
    payload = line_payload(line_record(*llm_node("joke"), inputs=inputs), "nightly")
    assert [*payload.params] == ["run_display_name", *INPUTS, "input_customer", "output"]
    assert payload.params["input_model"] == "m"


CALLS = tuple(span(f"c{n}", "joke", kind="LLM", tokens=Tokens(n, None, n), model=f"m{n % 2}") for n in (1, 2, 3))


@pytest.mark.parametrize(
    "record, params, metrics, tags",
    [
        (  # all calls of a node count, not its last one
            line_record(span("joke", node="joke", end=100.25, output="Ho!", has_output=True), *CALLS),
            {"input_topic": "atom", "output": "Ho!"},
            {"prompt_tokens": 1 + 2 + 3, "total_tokens": 1 + 2 + 3, "duration": 0.25},
            {"response_model": "m1, m0"},
        ),
        (  # a node that had not ended when its line timed out
            line_record(
                llm_node("joke", end=None, has_output=False)[0],
                llm_nodes=("joke",),
                outputs={},
                status=FAILED,
                error_type="Timeout",
            ),
            INPUTS,
            {"duration": 102.5 - 100.5},
            {"promptflow.error": "Timeout", "promptflow.error_type": "Timeout"},
        ),
        (  # a node whose output promptflow did not keep: the line's tells more than none
            line_record(span("joke", node="joke", inputs={"topic": "atom"}), llm_nodes=("joke",)),
            {"input_topic": "atom", "output": "Ha!"},
            {"duration": 1.0},
            {},
        ),
        (  # a line that never came to its LLM node
            line_record(
                span("py", node="py"), llm_nodes=("joke",), outputs={}, status=FAILED, error_type="E", error="no"
            ),
            {"input_topic": "atom"},
            {},
            {"promptflow.error": "E: no", "promptflow.error_type": "E"},
        ),
        (  # a node that the author named, without any LLM call
            line_record(span("py", node="py", output={"n": 1}, has_output=True), named_nodes=("py",)),
            {"input_topic": "atom", "output": '{"n": 1}'},
            {"duration": 1.0},
            {},
        ),
        (  # no nodes at all, as in a flex flow: tokens are those of LLM calls, not of the functions around them
            line_record(span("ask", tokens=Tokens(9, 9, 18)), *(replace(call, parent="ask") for call in CALLS)),
            {"input_topic": "atom", "output": "Ha!"},
            {"prompt_tokens": 1 + 2 + 3, "total_tokens": 1 + 2 + 3},
            {"response_model": "m1, m0"},
        ),
        (  # an output of None is an output
            line_record(llm_node("joke", inputs={}, output=None)[0], named_nodes=("joke",)),
            {"input_topic": "atom", "output": "None"},
            {"duration": 1.5},
            {},
        ),
        (  # a node whose own inputs are the prompt that another node made and settings: the flow's inputs tell more
            line_record(
                *llm_node("joke", inputs={"prompt": "Joke about atom", "model": "m", "max_tokens": 9}),
                inputs={"topic": "atom", "model": "of the flow"},
            ),
            {"input_model": "m", "input_max_tokens": "9", "input_topic": "atom", "output": "Ha!"},
            {**CALL, "duration": 1.5},
            {"response_model": "fake-1"},
        ),
        (  # a flow's own input may be named as a node's prompt, or as promptflow names what is its own
            line_record(*llm_node("joke"), inputs={"topic": "atom", "prompt": "Tell me", "_x": 1}),
            {**INPUTS, "input_prompt": "Tell me", "input__x": "1", "output": "Ha!"},
            {**CALL, "duration": 1.5},
            {"response_model": "fake-1"},
        ),
        (  # the clock was set back while the node ran
            line_record(replace(llm_node("joke")[0], start=200.0, end=100.0), named_nodes=("joke",)),
            {**INPUTS, "output": "Ha!"},
            {},
            {},
        ),
        (line_record(span("py", node="py"), copied_from="b0"), {"input_topic": "atom", "output": "Ha!"}, {}, None),
    ],
)
def test_line_payload(
    record: LineRecord, params: dict[str, str], metrics: dict[str, float], tags: dict[str, str] | None
) -> None:
    payload = line_payload(record, "nightly")
    assert payload.status == ("FAILED" if record.status == FAILED else "FINISHED")
    assert payload.params == {"run_display_name": "nightly", **params}
    assert payload.metrics == {"line_duration": 2.5, **metrics}
    assert payload.tags == ({"promptflow.copied_from": "b0"} if tags is None else tags)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, {"promptflow.run_id": "b1", "mlflow.user": "ana"}),
        ({"user": "a\0", "name": "\ud800"}, {"promptflow.run_id": "\\ud800", "mlflow.user": "a␀"}),
    ],
)
def test_tags_from_the_start(changes: dict[str, str], expected: dict[str, str]) -> None:
    one = batch(**changes)
    always = {"framework": "Prompt Flow", "promptflow.batch_uid": "uid", "mlflow.source.name": "joke-flow"}
    assert batch_tags(one) == always | expected
    assert child_tags(one, 7, "p1") == always | expected | {
        "promptflow.kind": "line",
        "promptflow.line_number": "7",
        "mlflow.parentRunId": "p1",
    }


def test_child_names_have_nine_digits() -> None:
    assert [child_name(7), child_name(1_234_567_890)] == ["Run 000000007", "Run 1234567890"]


@given(st.integers(1_500_000_000_000, 2_500_000_000_000))
def test_whole_milliseconds_stay_what_they_are(ms: int) -> None:
    assert milliseconds(ms / 1000) == ms
