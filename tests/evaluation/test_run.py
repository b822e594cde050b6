"""What is found out before the first line is scored, and what is told when none was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.run import EvaluationRequest, _told, evaluate
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.result import RunResult


@pytest.mark.parametrize(
    ("metrics", "named"),
    [
        (
            (),
            "bleu, flesch_kincaid_grade_level cannot be given without sacrebleu, pyphen: pip install sacrebleu pyphen",
        ),
        (("token_f1", "bleu"), "bleu cannot be given without sacrebleu: pip install sacrebleu"),
        (("token_f1",), "There is nothing to score"),
    ],
)
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metrics: tuple[str, ...], named: str
) -> None:
    monkeypatch.setenv("PF_MLFLOW_SPOOL_DIR", str(tmp_path))
    for module in ("sacrebleu", "pyphen"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=named):
        evaluate(EvaluationRequest(metrics=metrics), Observer())


@pytest.mark.parametrize(("scores", "is_told"), [({"lines_evaluated": 0.0}, True), ({"lines_evaluated": 1.0}, False)])
def test_that_no_line_got_a_score_is_told(scores: dict[str, float], is_told: bool) -> None:
    summary = BatchSummary(4, 4, 0, {}, {}, (), (), scores)
    told = _told(RunResult(name="e", status="Completed", summary=summary)).failure
    assert (told is not None and "No line got a score" in told) is is_told
    assert _told(RunResult(name="e", status="Completed", summary=summary, failure="boom")).failure == "boom"
