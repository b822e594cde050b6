"""Scores as nodes hand them on, and what becomes of them in a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
from builders import line_record, span
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.errors import BadInput
from pf_mlflow.projection.score_payload import (
    add_scores,
    score_keys,
    score_payload,
    scores_of,
)
from pf_mlflow.records.keys import valid_key
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.masking import MASK, cleaned
from pf_mlflow.records.saved_scores import read_scores, saved_scores
from pf_mlflow.records.score import Score
from pf_mlflow.tracking.run_payload import RunPayload

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
            for value in (math.inf, -math.inf, math.nan, 10**400)
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


def test_they_are_the_output_of_the_node_that_saves_them() -> None:
    told = [score.as_dict() for score in SCORES]
    saves = span("1", name="save_scores", output=told, has_output=True)
    assert saved_scores([span("0", name="score", output=[{"name": "no"}], has_output=True), saves]) == SCORES
    assert saved_scores([span("1", name="save_scores", error="boom")]) == ()
    assert saved_scores([span("1", name="save_scores", output="nonsense", has_output=True)]) == ()


def test_a_record_keeps_them() -> None:
    record = line_record(scores=SCORES)
    assert LineRecord.from_json(record.to_json()).scores == SCORES


def test_a_run_shows_them() -> None:
    payload = RunPayload("FINISHED", 0, 0)
    add_scores(payload, SCORES)
    assert payload.metrics == {"bleu/v1": 0.5, "polite/v1": 1.0}
    assert payload.tags == {
        "polite/v1/rationale": "it says please",
        "mood/v1": "glad",
        "rouge1/v1/error": "needs ground_truth",
    }
    shown = {score.name: score for score in scores_of(payload)}
    assert shown == {score.name: score for score in SCORES} and shown["polite"].value == 1.0


def test_what_is_not_given_anew_is_no_number_any_more() -> None:
    payload = score_payload(line_record(scores=SCORES[:1]), {"by": "second"}, ["bleu/v1", "rouge1/v1"])
    assert payload.metrics["bleu/v1"] == 0.5 and math.isnan(payload.metrics["rouge1/v1"])
    assert payload.tags == {"by": "second"} and payload.end_ms == 102_500
    assert scores_of(payload) == [Score("bleu", 0.5)]


@pytest.mark.parametrize(
    ("key", "is_score"),
    [
        ("bleu/v1", True),
        ("bleu/v1/mean", True),
        ("mood/v1/error", True),
        ("duration/p50", False),
        ("v1", False),
        ("a/v10", False),
    ],
)
def test_which_keys_are_an_evaluations(key: str, is_score: bool) -> None:
    assert (key in score_keys({key: 1})) is is_score


def test_secrets_and_content_leave_them() -> None:
    scores = (
        Score("a", "sk-abcdefghijklmnopqrstuvwx", rationale="says sk-abcdefghijklmnopqrstuvwx"),
        Score("b", error="ValueError: password: hunter2222"),
        Score("c", 0.5),
    )
    hidden = cleaned(line_record(scores=scores), "all", ())
    assert "sk-abc" not in hidden.to_json() and "hunter2222" not in hidden.to_json()
    bare = cleaned(line_record(scores=scores), "none", ())
    assert bare.scores[0].value == f"<{len(MASK)} characters>"
    assert bare.scores[0].rationale is None and bare.scores[1].error and "hunter" not in bare.scores[1].error
    assert bare.scores[2] == Score("c", 0.5)


@given(st.text(min_size=1), st.floats() | st.booleans() | st.text())
def test_any_name_and_value_become_something_that_mlflow_takes(name: str, value: Any) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

    payload = RunPayload("FINISHED", 0, 0)
    add_scores(payload, [Score(name, value)])
    for key in payload.metrics:
        _validate_metric_name(key)
    for key in payload.tags:
        _validate_tag_name(key)
    assert all(value == value for value in payload.metrics.values())


@pytest.mark.parametrize(
    "score, told",
    [
        (Score("f1", 0.5), {"name": "f1", "value": 0.5}),
        (Score("f1", 0.0), {"name": "f1", "value": 0.0}),
        (Score("polite", False), {"name": "polite", "value": False}),
        (Score("tone", ""), {"name": "tone", "value": ""}),
        (Score("f1", error="needs ground_truth"), {"name": "f1", "error": "needs ground_truth"}),
        (
            Score("judge", 4.0, "clear", None, "gpt-4o", 1.5, 100, 20),
            {
                "name": "judge",
                "value": 4.0,
                "rationale": "clear",
                "model": "gpt-4o",
                "seconds": 1.5,
                "prompt_tokens": 100,
                "completion_tokens": 20,
            },
        ),
    ],
)
def test_a_score_as_a_dict_and_back(score: Score, told: dict[str, object]) -> None:
    assert score.as_dict() == told
    assert Score.from_dict(told | {"of_a_newer_version": 1}) == score
