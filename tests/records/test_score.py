from __future__ import annotations

import pytest

from pf_mlflow.records.score import Score


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


@pytest.mark.parametrize(
    "score, number, text",
    [
        (Score("f1", 0.5), 0.5, None),
        (Score("polite", True), 1.0, None),
        (Score("f1", float("nan")), None, None),
        (Score("f1", 0.5, error="no"), None, None),
        (Score("tone", "kind"), None, "kind"),
        (Score("tone", "kind", error="no"), None, None),
        (Score("tone"), None, None),
    ],
)
def test_a_score_is_a_number_or_a_text_or_neither(score: Score, number: float | None, text: str | None) -> None:
    assert (score.number, score.text) == (number, text)


@pytest.mark.parametrize("name, model, is_joint", [("overall", "m", True), ("overall", None, False), ("x", "m", False)])
def test_what_judges_say_together_is_no_verdict_of_one(name: str, model: str | None, is_joint: bool) -> None:
    assert Score(name, "pass", model=model).is_joint is is_joint
