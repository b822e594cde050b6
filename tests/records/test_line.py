from __future__ import annotations

import json
from typing import Any

import pytest
from builders import any_text, batch, json_text, json_values, line_record, llm_node, span
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import LineRecord, Span, Tokens

counts = st.none() | st.integers(0)
times = st.floats(0, 4e9)
spans = st.builds(
    Span,
    id=json_text,
    name=json_text,
    kind=json_text,
    start=times,
    end=st.none() | times,
    parent=st.none() | json_text,
    node=st.none() | json_text,
    inputs=st.dictionaries(json_text, json_values, max_size=3),
    output=json_values,
    has_output=st.booleans(),
    error=st.none() | json_text,
    tokens=st.none() | st.builds(Tokens, counts, counts, counts),
)
records = st.builds(
    LineRecord,
    batch_uid=json_text,
    line_number=st.integers(0),
    status=st.sampled_from(["Completed", "Failed"]),
    start=times,
    end=times,
    inputs=st.dictionaries(json_text, json_values, max_size=3),
    outputs=st.dictionaries(json_text, json_values, max_size=3),
    error=st.none() | json_text,
    spans=st.lists(spans, max_size=3).map(tuple),
    named_nodes=st.lists(json_text, max_size=2).map(tuple),
    llm_nodes=st.lists(json_text, max_size=2).map(tuple),
    copied_from=st.none() | json_text,
)


@given(records)
def test_a_record_comes_back_from_its_json(record: LineRecord) -> None:
    text = record.to_json()
    assert text.isascii()
    assert LineRecord.from_json(text) == record


@given(any_text)
def test_any_text_makes_ascii_json(text: str) -> None:
    assert line_record(inputs={text: text}, error=text).to_json().isascii()


def test_a_value_that_json_does_not_know_is_kept_as_its_text() -> None:
    assert LineRecord.from_json(line_record(outputs={"x": {1j}}).to_json()).outputs == {"x": "{1j}"}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(mood="good"),
        lambda data: data["spans"][0].update(mood="good"),
        lambda data: data["spans"][2]["tokens"].update(mood=3),
    ],
    ids=["of the record", "of a span", "of tokens"],
)
def test_fields_of_a_newer_version_are_left_out(change: Any) -> None:
    data = json.loads(line_record().to_json())
    change(data)
    assert LineRecord.from_json(json.dumps(data)) == line_record()


@pytest.mark.parametrize("name", ["outputs", "copied_from", "named_nodes", "llm_nodes", "spans"])
def test_a_record_of_an_older_version_may_lack_a_field(name: str) -> None:
    data = json.loads(line_record().to_json())
    del data[name]
    assert LineRecord.from_json(json.dumps(data)).line_number == 7


@pytest.mark.parametrize("changes", [{}, {"single": True, "content": "none", "promptflow_home": "/home/ana/ü"}])
def test_a_batch_comes_back_from_its_json(changes: dict[str, Any]) -> None:
    one = batch(**changes)
    assert Batch.from_json(one.to_json()) == one
    assert Batch.from_json(json.dumps(json.loads(one.to_json()) | {"mood": "good"})) == one


@pytest.mark.parametrize(
    "a, b, expected",
    [
        (Tokens(11, 7, 18), Tokens(1, 2, 3), Tokens(11 + 1, 7 + 2, 18 + 3)),
        (Tokens(11, None, 18), Tokens(None, None, 3), Tokens(11, None, 18 + 3)),
        (Tokens(0, 0, 0), Tokens(), Tokens(0, 0, 0)),
        (Tokens(), Tokens(), Tokens()),
    ],
)
def test_tokens_add_up_where_they_are_known(a: Tokens, b: Tokens, expected: Tokens) -> None:
    assert a + b == b + a == expected


PLAIN = span("py", node="py")
CALLING = (span("rag", node="rag"), span("search", "rag", node="rag"), span("rag-call", "search", kind="LLM"))
CALLED_OUTSIDE = (span("helper", node=None), span("helper-call", "helper", kind="LLM"))


@pytest.mark.parametrize(
    "spans, named, declared, expected",
    [
        (llm_node("joke"), (), (), ("joke",)),
        ((*llm_node("joke"), PLAIN), (), (), ("joke",)),
        ((PLAIN, *CALLING), (), (), ("rag",)),
        ((*llm_node("joke"), *CALLING), (), ("joke",), ("joke", "rag")),
        ((llm_node("joke")[0],), (), (), ()),  # a prompt node: it calls no model
        ((PLAIN,), (), ("joke",), ("joke",)),  # the node itself was never reached
        ((*llm_node("joke"), PLAIN), ("py",), ("joke",), ("py",)),
        ((PLAIN,), (), (), ()),
        (CALLED_OUTSIDE, (), (), ()),
    ],
)
def test_recorded_nodes(
    spans: tuple[Span, ...], named: tuple[str, ...], declared: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert line_record(*spans, named_nodes=named, llm_nodes=declared).recorded_nodes() == expected


def test_node_spans_are_those_right_below_the_flow() -> None:
    record = line_record(*llm_node("joke"), *CALLING)
    assert {name: span.id for name, span in record.node_spans().items()} == {"joke": "joke", "rag": "rag"}


def test_llm_calls_of_a_node_come_in_the_order_they_were_started() -> None:
    node = span("py", node="py")
    first = span("first", "py", kind="LLM", start=100.2)
    chain = span("chain", "py", start=100.1)
    second = span("second", "chain", kind="LLM", start=100.3)
    elsewhere = span("elsewhere", "other", kind="LLM", start=100.2)
    record = line_record(node, chain, first, elsewhere, second)
    assert [call.id for call in record.llm_calls(node)] == ["first", "second"]
