"""Metrics that no line could be given, for want of a column, are told before anything is scored."""

from __future__ import annotations

import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.request import EvaluationRequest, check_needs

ANSWERS = {"answer": "${data.answer}"}


@pytest.mark.parametrize(
    ("metrics", "judge", "mapping", "told"),
    [
        (("token_f1",), "", ANSWERS, "token_f1 needs ground_truth, which neither the data nor the outputs have"),
        (("rougeL", "token_f1"), "", ANSWERS, "--column-mapping ground_truth='${data.COLUMN}'"),
        (("groundedness",), "gpt-4.1", ANSWERS, "groundedness needs "),
        (("token_f1", "answer_length"), "", ANSWERS, None),
        (("token_f1",), "", {**ANSWERS, "ground_truth": "${data.expected}"}, None),
        ((), "", ANSWERS, None),
    ],
)
def test_metrics_without_their_columns(
    metrics: tuple[str, ...], judge: str, mapping: dict[str, str], told: str | None
) -> None:
    request = EvaluationRequest(base="b", metrics=metrics, judge_model=judge)
    if told is None:
        return check_needs(request, mapping)
    with pytest.raises(BadInput) as raised:
        check_needs(request, mapping)
    assert told in str(raised.value)
