"""A batch of any format of data is scored by its own columns, from any folder."""

from __future__ import annotations

import json

import pytest
from machine import ROOT, Machine, tracked

FLOW = """
inputs: {number: {type: int}}
outputs: {answer: {type: string, reference: "${say.output}"}}
nodes:
- {name: say, type: python, source: {type: code, path: say.py}, inputs: {number: "${inputs.number}"}}
"""
SAY = """
from promptflow.core import tool


@tool
def say(number: int) -> str:
    return f"number {number}"
"""
SCRIPT = """
import json, os, sys
from pathlib import Path
import pf_mlflow
from pf_mlflow.evaluation.request import EvaluationRequest
from pf_mlflow.evaluation.run import evaluate
from pf_mlflow.running.observer import Observer

warnings = []
observer = Observer()
observer.warn = warnings.append
done = pf_mlflow.run("saying", "rows.csv", column_mapping={"number": "${data.number}"}, name="numbers")
result = evaluate(EvaluationRequest("numbers", metrics=("exact_match",)), observer)
flow = Path(os.path.relpath(sys.argv[1]))
again = EvaluationRequest("numbers", flow, Path("rows.csv"), metrics=("exact_match", "odd.py:odd"))
print(json.dumps([done.status, result.failure, evaluate(again, observer).failure, warnings]))
"""
ODD = """
def odd(answer):
    return answer.endswith("7")
"""


@pytest.mark.slow
def test_a_batch_of_csv_is_scored_by_its_own_columns_and_by_files_of_this_folder(machine: Machine) -> None:
    flow = machine.cwd / "saying"
    flow.mkdir()
    (flow / "flow.dag.yaml").write_text(FLOW)
    (flow / "say.py").write_text(SAY)
    (machine.cwd / "rows.csv").write_text("number,ground_truth\n7,number 7\n8,number 9\n")
    (machine.cwd / "script.py").write_text(SCRIPT)
    (machine.cwd / "odd.py").write_text(ODD)
    store = f"sqlite:///{machine.folder}/own_data.db"
    done = machine.command("python", str(machine.cwd / "script.py"), str(ROOT / "eval_flow"), MLFLOW_TRACKING_URI=store)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["Completed", None, None, []]
    found = tracked(store, "numbers")
    assert {n: run.data.metrics["exact_match/v1"] for n, run in found.children.items()} == {0: 1.0, 1: 0.0}
    assert found.parent.data.metrics["exact_match/v1/mean"] == (1 + 0) / 2
    assert {n: run.data.metrics["odd/v1"] for n, run in found.children.items()} == {0: 1.0, 1: 0.0}
