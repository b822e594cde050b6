"""What is found out before the first line is scored, and what is told when none was."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from finished import EVALUATION_FLOW, call, finished_batch, home_with, run_info
from machine import ROOT

from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.request import EvaluationRequest, prepared
from pf_mlflow.evaluation.run import _told, evaluate
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


def test_scores_that_a_later_evaluation_took_the_place_of_are_no_lack_of_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path))
    node = call("save_scores", 100.25, node_name="save_scores", output=[{"name": "f1", "value": 0.5}])
    finished_batch(tmp_path, [run_info(0), run_info(1, node)], "e", EVALUATION_FLOW, run="b1")
    summary = BatchSummary(2, 2, 0, {}, {}, (), (), {"lines_evaluated": 0.0, "lines_not_evaluated": 2.0})
    result = RunResult(name="e", status="Completed", summary=summary, trouble="another takes its place")
    assert _told(result) == result


def test_what_a_request_names_holds_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "polite.py").write_text("def polite(answer):\n    return True\n")
    shutil.copy(tmp_path / "polite.py", tmp_path / "a,b.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    flow = Path(os.path.relpath(ROOT / "eval_flow"))
    request = prepared(EvaluationRequest(flow=flow, data=Path("d.csv"), metrics=("~/polite.py:polite", "token_f1")))
    assert request.flow and request.flow.is_absolute() and request.flow.samefile(ROOT / "eval_flow")
    assert request.data == tmp_path / "d.csv"
    assert request.metrics == (f"{tmp_path}/polite.py:polite", "token_f1")
    assert prepared(EvaluationRequest(metrics=("a,b.py",))).metrics == (f"{tmp_path}/a,b.py",)


def test_a_judge_named_anew_is_asked_by_the_model_of_the_last_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for name, value in {"PF_HOME_DIRECTORY": home, "PF_MLFLOW_SPOOL_DIR": tmp_path / "spool"}.items():
        monkeypatch.setenv(name, str(value))
    home_with(home, {"run": "gone", "column_mapping": {"judge_model": "gpt"}}, name="e1")
    with pytest.raises(BadInput, match="There is no batch 'gone' on this machine"):
        evaluate(EvaluationRequest("gone", metrics=("correctness",), retry_errors=True), Observer())
