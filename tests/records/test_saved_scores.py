"""Scores as nodes hand them on."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import numpy
import pytest
from builders import line_record, span

from pf_mlflow.errors import BadInput
from pf_mlflow.records.keys import valid_key
from pf_mlflow.records.line import LineRecord, cleaned, saved_scores
from pf_mlflow.records.masking import MASK, Secrets
from pf_mlflow.records.score import Score, read_scores

SCORES = (
    Score("bleu", 0.5),
    Score("polite", True, rationale="it says please"),
    Score("mood", "glad"),
    Score("rouge1", error="needs ground_truth"),
)


@pytest.mark.parametrize(
    ("given", "scores"),
    [
        ([score.as_dict() for score in SCORES], list(SCORES)),
        ({"bleu": 0.5, "mood": "glad"}, [Score("bleu", 0.5), Score("mood", "glad")]),
        ([{"name": "bleu", "value": 1, "of a newer version": 2}], [Score("bleu", 1)]),
        ([], []),
        ([{"name": "a/b%" + "c" * 300, "value": 1}], [Score(valid_key("a/b%" + "c" * 300, 180), 1)]),
        *(
            ([{"name": "x", "value": value}], [Score("x", error="its value is no finite number")])
            for value in (math.inf, -math.inf, math.nan, 10**400, numpy.float32("nan"), Decimal("inf"))
        ),
        *(
            ({"x": value}, [Score("x", plain)])
            for value, plain in (
                (numpy.int64(3), 3.0),
                (numpy.float32(0.25), 0.25),
                (numpy.bool_(True), True),
                (Decimal("0.5"), 0.5),
                ("a \ud83d", r"a \ud83d"),
            )
        ),
        ([{"name": "x", "value": 1, "seconds": "fast", "rationale": 5, "cached": True}], [Score("x", 1, cached=True)]),
        ("bleu", "a mapping from names to values, not str 'bleu'"),
        ([0.5], "a mapping with a name"),
        ([{"name": ""}], "a mapping with a name"),
        ({"bleu": [1]}, "'bleu' is a number, a bool or a text, not list"),
    ],
)
def test_they_are_read(given: Any, scores: Any) -> None:
    if isinstance(scores, list):
        assert read_scores(given) == scores
    else:
        with pytest.raises(BadInput, match=scores):
            read_scores(given)


def test_names_that_are_one_key_stay_two_scores() -> None:
    names = [score.name for score in read_scores({"a*b": 1, "a?b": 0, "a_b": 2, " a_b ": 2})]
    assert len(set(names)) == 4 and all(re.fullmatch(r"a_b(_[0-9a-f]{8})?", name) for name in names)
    assert [score.name for score in read_scores([score.as_dict() for score in read_scores({"a*b": 1})])] == names[:1]


def test_they_are_the_output_of_the_node_that_saves_them() -> None:
    told = [score.as_dict() for score in SCORES]
    saves = span("1", name="save_scores", output=told, has_output=True)
    assert saved_scores([span("0", name="score", output=[{"name": "no"}], has_output=True), saves]) == SCORES
    assert saved_scores([span("1", name="save_scores", error="boom")]) == ()
    assert saved_scores([span("1", name="save_scores", output="nonsense", has_output=True)]) == ()


def test_a_record_keeps_them() -> None:
    record = line_record(scores=SCORES)
    assert LineRecord.from_json(record.to_json()).scores == SCORES


def test_secrets_and_content_leave_them() -> None:
    scores = (
        Score("a", "sk-abcdefghijklmnopqrstuvwx", rationale="says sk-abcdefghijklmnopqrstuvwx"),
        Score("b", error="ValueError: password: hunter2222"),
        Score("c", 0.5),
    )
    hidden = cleaned(line_record(scores=scores), "all", Secrets())
    assert "sk-abc" not in hidden.to_json() and "hunter2222" not in hidden.to_json()
    bare = cleaned(line_record(scores=scores), "none", Secrets())
    assert bare.scores[0].value == f"<{len(MASK)} characters>"
    assert bare.scores[0].rationale is None and bare.scores[1].error and "hunter" not in bare.scores[1].error
    assert bare.scores[2] == Score("c", 0.5)
