"""Where scores and verdicts land: a line's run, the sums of a batch; what of them is text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from builders import line_record
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.projection.score_payload import (
    EVALUATION_KEYS,
    add_scores,
    key_tags,
    score_keys,
    score_payload,
    scores_of,
)
from pf_mlflow.projection.summary import BatchSummary, Tally
from pf_mlflow.records.line import LineRecord, cleaned
from pf_mlflow.records.masking import Secrets
from pf_mlflow.records.score import Score
from pf_mlflow.scoring.sums import ScoreSums
from pf_mlflow.tracking.run_payload import RunPayload

SCORES = (
    Score("bleu", 0.5),
    Score("polite", True, rationale="it says please"),
    Score("mood", "glad"),
    Score("rouge1", error="needs ground_truth"),
)
M = "gpt-judge"
FAILED = (
    Score("token_f1", 0.5),
    Score("groundedness", "no", "made up", model=M, seconds=0.5, prompt_tokens=30, completion_tokens=5),
    Score("safety", "yes", "fine", model=M, seconds=0.0, cached=True),
    Score("correctness", error="it answered 500", model=M, seconds=1.5),
    Score("tone", "very kind", model=M, seconds=0.25, prompt_tokens=10),
    Score("answer_similarity", 4, "close", model=M, seconds=0.25, prompt_tokens=20, completion_tokens=4),
    Score("chunk_precision", 0.25),
    Score("overall", "fail", "without a verdict of correctness", model=M),
    Score("root_cause", "groundedness", model=M),
)
PASSED = (
    Score("groundedness", "yes", model=M, seconds=1.0),
    Score("safety", "yes", model=M, seconds=1.0),
    Score("answer_similarity", 2, model=M, seconds=1.0),
    Score("overall", "pass", model=M),
)
LINES = [FAILED, PASSED, (Score("groundedness", error="late", model=M),), (Score("token_f1", 1.0),), ()]
JUDGED = "response/llm_judged"
SUMS = {
    f"{JUDGED}/groundedness/percentage": 1 / 2,
    f"{JUDGED}/groundedness/error_count": 1,
    f"{JUDGED}/safety/percentage": 2 / 2,
    f"{JUDGED}/safety/error_count": 0,
    f"{JUDGED}/correctness/error_count": 1,
    f"{JUDGED}/tone/percentage/very kind": 1 / 1,
    f"{JUDGED}/tone/error_count": 0,
    f"{JUDGED}/answer_similarity/error_count": 0,
    "answer_similarity/v1/mean": (4 + 2) / 2,
    "answer_similarity/v1/variance": ((4 - 3) ** 2 + (2 - 3) ** 2) / 2,
    "answer_similarity/v1/p90": 2 + 0.9 * (4 - 2),
    "answer_similarity/v1/count": 2,
    "token_f1/v1/mean": (0.5 + 1.0) / 2,
    "token_f1/v1/variance": 0.25**2,
    "token_f1/v1/p90": 0.5 + 0.9 * 0.5,
    "token_f1/v1/count": 2,
    "chunk_precision/v1/mean": 0.25,
    "chunk_precision/v1/variance": 0,
    "chunk_precision/v1/p90": 0.25,
    "chunk_precision/v1/count": 1,
    "overall/pass_rate": 1 / 2,
    "judge/verdicts": 4 + 3,
    "judge/cached": 1,
    "judge/prompt_tokens": 30 + 10 + 20,
    "judge/completion_tokens": 5 + 4,
    "judge/total_tokens": 60 + 9,
    "judge/seconds": 0.5 + 0.0 + 1.5 + 0.25 + 0.25 + 3 * 1.0,
}


def shown(scores: Sequence[Score]) -> RunPayload:
    payload = RunPayload("FINISHED", 0, 0)
    add_scores(payload, scores)
    return payload


def test_a_run_shows_verdicts() -> None:
    payload = shown(FAILED)
    assert texts(payload) == {
        f"{JUDGED}/groundedness/rating": "no",
        f"{JUDGED}/groundedness/rationale": "made up",
        f"{JUDGED}/groundedness/model": M,
        f"{JUDGED}/safety/rating": "yes",
        f"{JUDGED}/safety/rationale": "fine",
        f"{JUDGED}/safety/model": M,
        f"{JUDGED}/safety/cached": "true",
        f"{JUDGED}/correctness/error": "it answered 500",
        f"{JUDGED}/correctness/model": M,
        f"{JUDGED}/tone/rating": "very kind",
        f"{JUDGED}/tone/model": M,
        f"{JUDGED}/answer_similarity/rating": "4",
        f"{JUDGED}/answer_similarity/rationale": "close",
        f"{JUDGED}/answer_similarity/model": M,
        "response/overall_assessment/rating": "fail",
        "response/overall_assessment/rationale": "without a verdict of correctness",
        "response/overall_assessment/root_cause": "groundedness",
    }
    assert payload.metrics == {
        "token_f1/v1": 0.5,
        "chunk_precision/v1": 0.25,
        "answer_similarity/v1": 4.0,
        f"{JUDGED}/groundedness/prompt_tokens": 30,
        f"{JUDGED}/groundedness/completion_tokens": 5,
        f"{JUDGED}/groundedness/seconds": 0.5,
        f"{JUDGED}/safety/seconds": 0.0,
        f"{JUDGED}/correctness/seconds": 1.5,
        f"{JUDGED}/tone/prompt_tokens": 10,
        f"{JUDGED}/tone/seconds": 0.25,
        f"{JUDGED}/answer_similarity/prompt_tokens": 20,
        f"{JUDGED}/answer_similarity/completion_tokens": 4,
        f"{JUDGED}/answer_similarity/seconds": 0.25,
    }
    assert score_keys(payload) | {EVALUATION_KEYS} == payload.tags.keys() | payload.metrics.keys()


@pytest.mark.parametrize("scores", LINES)
def test_scores_come_back_from_the_run_that_shows_them(scores: Sequence[Score]) -> None:
    assert {score.name: score for score in scores_of(shown(scores))} == {score.name: score for score in scores}


def test_promptflow_and_mlflow_are_given_the_same_sums() -> None:
    sums = ScoreSums.of(LINES)
    assert sums.metrics() == pytest.approx(SUMS) and sums.lines == 3
    tally = Tally()
    for number, scores in enumerate(LINES):
        tally.add_run(number, shown(scores))
    summary = tally.summary()
    assert summary.scores == pytest.approx(SUMS | {"lines_evaluated": 3, "lines_not_evaluated": 2})
    assert BatchSummary.from_json(summary.to_json()) == summary


def test_without_judges_there_are_no_sums_of_them() -> None:
    assert not any("judge" in key or "overall" in key for key in ScoreSums.of([[Score("token_f1", 1.0)]]).metrics())


def test_all_of_an_earlier_evaluation_goes() -> None:
    before = shown(FAILED)
    payload = score_payload(line_record(scores=PASSED), {}, score_keys(before) & before.metrics.keys())
    assert math.isnan(payload.metrics[f"{JUDGED}/tone/seconds"]) and payload.metrics["answer_similarity/v1"] == 2
    verdicts = scores_of(payload)
    assert sum(score.seconds or 0 for score in verdicts) == 3.0
    assert {score.prompt_tokens for score in verdicts} == {None} and {score.name for score in verdicts} == {
        score.name for score in PASSED
    }


def test_content_none_leaves_verdicts_but_no_text() -> None:
    record = LineRecord.from_json(line_record(scores=FAILED).to_json())
    assert record.scores == FAILED
    payload = shown(cleaned(record, "none", Secrets()).scores)
    assert payload.tags[f"{JUDGED}/groundedness/rating"] == "no"
    assert payload.tags[f"{JUDGED}/correctness/error"] == "not told"
    assert payload.tags["response/overall_assessment/root_cause"] == "groundedness"
    assert not any("rationale" in key for key in payload.tags) and "made up" not in str(payload)
    assert payload.metrics == shown(FAILED).metrics


def test_a_metric_of_ones_own_may_be_called_overall() -> None:
    payload = shown([Score("overall", 0.5), Score("root_cause", "weather")])
    assert payload.metrics == {"overall/v1": 0.5} and texts(payload) == {"root_cause/v1": "weather"}
    assert ScoreSums.of([[Score("overall", 0.5)]]).metrics()["overall/v1/mean"] == 0.5


def test_a_run_shows_them() -> None:
    payload = RunPayload("FINISHED", 0, 0)
    add_scores(payload, SCORES)
    assert payload.metrics == {"bleu/v1": 0.5, "polite/v1": 1.0}
    assert payload.tags[EVALUATION_KEYS] == "bleu/v1,mood/v1,polite/v1,polite/v1/rationale,rouge1/v1/error"
    assert texts(payload) == {
        "polite/v1/rationale": "it says please",
        "mood/v1": "glad",
        "rouge1/v1/error": "needs ground_truth",
    }
    shown = {score.name: score for score in scores_of(payload)}
    assert shown == {score.name: score for score in SCORES} and shown["polite"].value == 1.0


def test_what_is_not_given_anew_is_no_number_any_more() -> None:
    payload = score_payload(line_record(scores=SCORES[:1]), {"by": "second"}, ["bleu/v1", "rouge1/v1"])
    assert payload.metrics["bleu/v1"] == 0.5 and math.isnan(payload.metrics["rouge1/v1"])
    assert texts(payload) == {"by": "second"} and payload.end_ms == 102_500
    assert scores_of(payload) == [Score("bleu", 0.5)]


def test_names_are_listed_in_as_many_tags_as_they_take() -> None:
    keys = {f"{number:0240}/v1" for number in range(50)}
    tags = key_tags(keys)
    assert len(tags) == math.ceil(50 * 244 / 5000) and all(len(text) <= 5000 for text in tags.values())
    assert score_keys(RunPayload("", 0, 0, tags=tags)) == keys


def test_what_somebody_else_named_alike_is_no_score_of_ours() -> None:
    foreign = {"toxicity/v1/rationale": "rude", "response/overall_assessment/rating": "yes"}
    payload = RunPayload("", 0, 0, metrics={"toxicity/v1": 0.9}, tags=foreign)
    assert scores_of(payload) == [] and score_keys(payload) == frozenset()
    add_scores(payload, [Score("bleu", 0.5)])
    assert scores_of(payload) == [Score("bleu", 0.5)] and score_keys(payload) == {"bleu/v1"}


def texts(payload: RunPayload) -> dict[str, str]:
    return {key: text for key, text in payload.tags.items() if key != EVALUATION_KEYS}


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
