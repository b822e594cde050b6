from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.scoring import LineFields

HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize(
    "value, text",
    [
        ("Paris", "Paris"),
        (" Paris\n", " Paris\n"),  # as it is
        (None, None),
        ("", None),
        (" \n\u3000", None),
        ("None", None),
        *[(text, None) for text in ("nan", "NaT", "<NA>")],  # what promptflow makes of it where an input is a text
        ("NaN", "NaN"),
        ("none", "none"),
        ("None of them", "None of them"),
        (float("nan"), None),  # pandas' nothing
        (0, "0"),
        (0.5, "0.5"),
        (False, "False"),
        ({"city": "東京"}, '{"city": "東京"}'),
        (["東京", 1, None], '["東京", 1, null]'),
        ({}, "{}"),
        ({(1, 2): 3}, "{(1, 2): 3}"),  # no JSON has such a key
        (HOLDS_ITSELF, "[[...]]"),
    ],
)
def test_an_answer_as_text(value: Any, text: str | None) -> None:
    assert LineFields.of(value).answer == text
    assert LineFields.of(value).has("answer") is (text is not None)


@pytest.mark.parametrize(
    "context, texts",
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("[]", ()),
        ("one text", ("one text",)),
        (["one", " ", None, "two"], ("one", "two")),
        (("one", "two"), ("one", "two")),
        ('["one", "two"]', ("one", "two")),
        ("[see page 2] one text", ("[see page 2] one text",)),
        ([{"content": "one"}, {"page_content": "two"}, {"text": "three", "score": 1}], ("one", "two", "three")),
        ('[{"content": "東京"}]', ("東京",)),
        ({"content": "one"}, ("one",)),
        ([{"title": "no text"}, {}], ('{"title": "no text"}',)),
        ([{"content": ["a", "b"]}], ('["a", "b"]',)),
        ([1, ["a"]], ("1", '["a"]')),
    ],
)
def test_context(context: Any, texts: tuple[str, ...]) -> None:
    line = LineFields.of(context=context)
    assert line.context == texts
    assert line.has("context") is bool(texts)


def test_fields_by_name() -> None:
    assert LineFields.of("a", vector=numpy.zeros(2)).has("vector")  # two numbers, to compare with "" is no answer
    line = LineFields.of("a", question="None", ground_truth="b", style="", mood=["sad"])
    assert (line.get("answer"), line.get("mood"), line.get("nothing")) == ("a", ["sad"], None)
    assert [name for name in ("answer", "question", "ground_truth", "style", "mood", "extra") if line.has(name)] == [
        "answer",
        "ground_truth",
        "mood",
    ]
    assert line.as_dict() == {"answer": "a", "ground_truth": "b", "mood": ["sad"]}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner)), st.text())
def test_any_value_is_taken(value: Any, text: str) -> None:
    line = LineFields.of(value, value, value, value, extra=value, text=text)
    assert line.get("extra") is value
    assert all(isinstance(part, str) and part.strip() for part in line.context)
