"""The schemas of `--json`: each command's own, valid, with its version, and true of what is printed, good and bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import pytest
from desk import Desk
from finished import run_info
from json_schemas import SCHEMAS, schema, validator
from jsonschema import Draft202012Validator, ValidationError

from pf_mlflow.cli import main
from pf_mlflow.projection.summary import BatchSummary, LineStats
from pf_mlflow.records.batch import Batch
from pf_mlflow.running.result import RunResult

PAGE = (SCHEMAS.parent / "json.md").read_text("utf-8")
NAMES = sorted(f"pf-mlflow/{path.name.split('.')[0]}/{path.name.split('.')[1]}" for path in SCHEMAS.iterdir())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A machine with two batches in MLflow, of which one has failed lines, and one that MLflow has nothing of."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.leave("good")
    desk.leave("bad", [run_info(0), run_info(1, status="Failed", error={"message": "no", "code": "UserError"})])
    desk.deliver("good", "bad")
    desk.leave("later")
    return desk


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_of_its_draft_and_names_itself(name: str) -> None:
    found = schema(name)
    Draft202012Validator.check_schema(found)
    assert found["$id"] == name and found["properties"]["schema"]["const"] == name
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert f"schemas/{name.split('/')[1]}.{name.split('/')[2]}.json" in PAGE


def test_every_command_that_prints_json_stands_on_the_page() -> None:
    commands = [name for name, command in main.commands.items() if any("--json" in one.opts for one in command.params)]
    assert [name for name in sorted(commands) if f"`pf-mlflow {name}" not in PAGE] == []
    assert all(isinstance(command, click.Command) for command in main.commands.values())


@pytest.mark.parametrize(
    ("words", "code", "kind", "says"),
    [
        ("show good", 0, "show", lambda told: told["lines_completed"] == 2),
        ("show bad", 0, "show", lambda told: told["lines_failed"] == 1 and told["failed"][0]["error"]),
        ("show bad --failed", 0, "show", lambda told: told["failed"][0]["run_id"] and "lines_total" not in told),
        ("show later", 0, "show", lambda told: told["state"] == "missing" and told["parent_run_id"] is None),
        ("sync good bad", 0, "sync", lambda told: [one["state"] for one in told["batches"]] == ["in line"] * 2),
        ("sync later --dry-run", 0, "sync", lambda told: told["dry_run"] and told["batches"][0]["made"] == 2),
        (
            "sync good",
            1,
            "sync",
            lambda told: told["batches"][0]["state"] == "failed" and told["batches"][0]["trouble"],
        ),
        ("clean --dry-run", 0, "clean", lambda told: told["dry_run"]),
        ("clean --batches --older-than 0h --dry-run", 0, "clean", lambda told: told["removed"] or told["kept"]),
        ("doctor", None, "doctor", lambda told: told["checks"][0]["check"] == "python"),
        ("doctor nowhere", 1, "doctor", lambda told: told["verdict"] == "error"),
        ("show nobody", 1, None, None),
        ("sync nobody", 1, None, None),
    ],
)
def test_what_commands_print(
    desk: Desk, words: str, code: int | None, kind: str | None, says: Callable[[dict[str, Any]], Any]
) -> None:
    """`Desk` holds each output against its schema."""
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{desk.folder}/nowhere/m.db"} if code == 1 and kind == "sync" else {}
    if env:
        desk.leave("good_elsewhere")
        words = "sync good_elsewhere"
    done = desk.type(*words.split(), "--json", **env)
    assert code is None or done.exit_code == code, done.output
    if kind is None:
        assert done.stdout == "" and done.stderr.startswith("Error: ")
        return
    told = json.loads(done.stdout)
    assert told["schema"] == f"pf-mlflow/{kind}/v1" and says(told)


BATCH = Batch("uid", "b", "flow", "sqlite:///m.db", "jokes", "ana", 0, 0.0)
LINE = LineStats(0, True, 0.5, 1, 2, 3, "tea", None, {"f1": 0.5}, 1, ("bleu",))
SUMS = BatchSummary(1, 1, 0, {"total_tokens": 3}, {"p50": 0.5}, (LINE,), (), {"f1/v1/mean": 0.5}, (LINE,))
RESULTS = {
    "nothing tracked": RunResult(name="b", status="Failed", failure="It broke."),
    "interrupted": RunResult(name="b", status="Canceled", interrupted=True, batch=BATCH, delivered=False, trouble="no"),
    "whole": RunResult(name="b", status="Completed", batch=BATCH, parent_run_id="1", link="http://m", summary=SUMS),
}


def printed(result: RunResult) -> Any:
    return json.loads(json.dumps({"schema": "pf-mlflow/result/v1", **result.as_dict()}))


@pytest.mark.parametrize("case", RESULTS)
def test_results_of_a_batch(case: str) -> None:
    validator("pf-mlflow/result/v1").validate(printed(RESULTS[case]))


@pytest.mark.parametrize(
    "wrong",
    [{"status": "Done"}, {"lines_failed": -1}, {"delivered": None}, {"slowest": [{"line_number": 0}]}, {"more": 1}],
)
def test_what_is_wrong_is_seen(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validator("pf-mlflow/result/v1").validate(printed(RESULTS["whole"]) | wrong)


def test_what_comes_later_is_taken() -> None:
    Draft202012Validator(schema("pf-mlflow/result/v1")).validate(printed(RESULTS["whole"]) | {"more": 1})
