"""The examples by the commands that their READMEs show, and the data they run over."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS
from machine import ROOT, Machine, Tracked, tracked

QUESTIONS = (ROOT / "data" / "questions.jsonl").read_text("utf-8")
ROWS = [json.loads(line) for line in QUESTIONS.splitlines()]
KANA = re.compile("[぀-ヿ]")


def of_readme(example: str, beginning: str) -> list[str]:
    """The words of a command that the README of an example shows."""
    text = (ROOT / "examples" / example / "README.md").read_text("utf-8")
    return shlex.split(next(line for line in text.splitlines() if line.startswith(beginning)))


def test_the_questions_are_whole_and_all_different() -> None:
    assert len(ROWS) >= 36
    assert all(set(row) == {"question", "context", "ground_truth"} for row in ROWS)
    assert [row for row in ROWS if not all(isinstance(text, str) and text.strip() for text in row.values())] == []
    assert len({row["question"] for row in ROWS}) == len({row["context"] for row in ROWS}) == len(ROWS)
    assert "\\u" not in QUESTIONS


def test_a_third_of_the_questions_is_japanese_through_and_through() -> None:
    japanese = [row for row in ROWS if KANA.search(row["question"])]
    assert len(ROWS) / 3 <= len(japanese) <= len(ROWS) / 2
    assert all(KANA.search(row["context"]) for row in japanese)
    assert not any(KANA.search("".join(row.values())) for row in ROWS if row not in japanese)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples need of this repository, so that commands run in it leave no trace here."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("examples", "nodes", "pf_mlflow", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".promptflow"))
    for name in (".amlignore", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_validate(machine: Machine, checkout: Path) -> None:
    done = machine.command(*of_readme("qa", "pf flow validate"), cwd=checkout)
    assert done.returncode == 0 and "error" not in done.stdout.lower(), done.stdout


@pytest.fixture(scope="module")
def answered(machine: Machine, checkout: Path) -> Tracked:
    """The first four questions, the second of them Japanese, answered by the file of the example."""
    (checkout / "data" / "questions.jsonl").write_text("".join(QUESTIONS.splitlines(keepends=True)[:4]), "utf-8")
    (checkout / "examples" / "qa" / "mlflow.db").touch()
    done = machine.command(*of_readme("qa", "pf run create --file"), "--name", "qa", cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return tracked(f"sqlite:///{checkout / 'mlflow.db'}", "qa")


def test_each_question_is_a_child_run(answered: Tracked) -> None:
    assert KANA.search(ROWS[1]["question"]) and len(answered.children) == 4
    for key in ("question", "context"):
        assert answered.column("params", f"input_{key}") == [row[key] for row in ROWS[:4]]
    asked = [f"Context: {row['context']}\n\nQuestion: {row['question']}" for row in ROWS[:4]]
    assert answered.column("params", "output") == [f"a joke about {prompt}" for prompt in asked]
    assert answered.column("metrics", "total_tokens") == 4 * [PROMPT_TOKENS + COMPLETION_TOKENS]
    assert answered.parent.data.tags["mlflow.source.name"] == "qa"
    assert answered.parent.data.metrics["lines_completed"] == 4


def test_the_outputs_are_the_answer_and_the_id_of_the_child_run(answered: Tracked, machine: Machine) -> None:
    outputs = machine.outputs("qa")
    assert [set(output) for output in outputs] == 4 * [{"line_number", "answer", "child_run_id"}]
    for output in outputs:
        child = answered.children[output["line_number"]]
        assert output["answer"] == child.data.params["output"]
        assert output["child_run_id"] in ("", child.info.run_id)


def test_the_snapshot_holds_the_nodes_and_the_package_and_no_store(answered: Tracked, machine: Machine) -> None:
    snapshot = machine.folder / "promptflow" / ".runs" / "qa" / "snapshot"
    files = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    for name in ("nodes", "pf_mlflow"):
        assert {path.relative_to(ROOT).as_posix() for path in (ROOT / name).rglob("*.py")} <= files
    assert {"flow.dag.yaml", "answer.jinja2", "requirements.txt"} <= files
    assert "mlflow.db" not in files
