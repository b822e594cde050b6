"""What is found out before the first line is scored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.run import EvaluationRequest, evaluate
from pf_mlflow.running.observer import Observer


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
