from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished import finished_batch

from pf_mlflow.sources.promptflow.outcome import failure_of, logged_metrics
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record

CAUSE = {"type": "ToolExecutionErrorDetails", "info": {"type": "IndexError", "message": "list index out of range"}}
OF_A_NODE = {"message": "Execution failure in 'total': (IndexError) …", "additionalInfo": [CAUSE]}
OF_A_LINE = {"line_number": 1, "error": {"message": "Execution failure in 'give': (ValueError) boom"}}
OF_A_CLASS = {"message": "Execution failure in '__aggregate__': (KeyError) 'a'", "debugInfo": {"type": "ScriptError"}}
LOG = f"2026 execution WARNING  Failed to execute aggregation function with error: {OF_A_CLASS!r}\n2026 Finish\n"
FAILED = "total, which sums the lines up, failed: IndexError"


def record(tmp_path: Path, status: str = "Completed", log: str = "", **files: Any) -> RunRecord:
    folder = finished_batch(tmp_path / "home", [], status=status)
    (folder / "logs.txt").write_text(log)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    found = run_record(tmp_path / "home", "b1")
    assert found
    return found


def errors(*found: Any) -> dict[str, Any]:
    return {"message": "First error message is: …", "additionalInfo": [{"info": {"errors": [*found]}}]}


@pytest.mark.parametrize(
    ("status", "error", "log", "with_texts", "without"),
    [
        ("Completed", None, "", None, None),
        ("Completed", errors(OF_A_LINE), "", None, None),
        (
            "Completed",
            errors(OF_A_LINE, {"error": OF_A_NODE, "aggregation_node_name": "total"}),
            "",
            f"{FAILED}: list index out of range",
            FAILED,
        ),
        (
            "Completed",
            None,
            LOG,
            f"__aggregate__, which sums the lines up, failed: ScriptError: {OF_A_CLASS['message']}",
            "__aggregate__, which sums the lines up, failed: ScriptError",
        ),
        ("Completed", "no JSON", "with error: {no dict", None, None),
        ("Failed", {"message": "The batch\n timed out"}, "", "The batch timed out", None),
        ("Failed", "[]", "", None, None),
        ("Failed", None, "", None, None),
    ],
)
def test_why_a_batch_failed(
    tmp_path: Path, status: str, error: Any, log: str, with_texts: str | None, without: str | None
) -> None:
    found = record(tmp_path, status, log, **({"error": error} if error else {}))
    assert (failure_of(found), failure_of(found, has_texts=False)) == (with_texts, without)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({"sum": 3, "share": 0.5}, {"sum": 3.0, "share": 0.5}),
        ({"text": "no", "list": [1], "none": None, "true": True}, {}),
        ("no JSON", {}),
        ("[1]", {}),
    ],
)
def test_numbers_that_a_flow_logged(tmp_path: Path, kept: Any, expected: dict[str, float]) -> None:
    assert logged_metrics(record(tmp_path, metrics=kept)) == expected
