"""Judges through `pf-mlflow evaluate` and `pf run create`, down to what MLflow shows."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from batches import until
from judge_server import COMPLETION_TOKENS, KEY, PROMPT_TOKENS, JudgeServer
from machine import ROOT, Machine, Tracked, tracked
from mlflow import MlflowClient

EVAL = ROOT / "eval_flow"
MODEL = "gpt-judge"
SAYS = [
    "yes",
    "groundedness:no",
    "fenced",
    "told",
    "prose",
    "broken",
    "maybe",
    "429:1",
    "safety:400",
    "correctness:no",
]
ERRORS = {4: 4, 5: 4, 6: 4, 8: 1}
"""How many judges give no verdict, by line."""
FAILS = {1: "groundedness", 9: "correctness"}
JUDGES = ["context_sufficiency", "groundedness", "correctness", "safety"]
JUDGED = "response/llm_judged"


@pytest.fixture(scope="module", autouse=True)
def tracking_uri_restored() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def judge(machine: Machine) -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        schema = "https://azuremlschemas.azureedge.net/promptflow/latest"
        openai = {"name": "judge", "type": "open_ai", "api_key": KEY, "base_url": server.base_url}
        azure = {"name": "azure_judge", "type": "azure_open_ai", "api_key": KEY, "api_base": server.root}
        for kind, connection in (("OpenAIConnection", openai), ("AzureOpenAIConnection", azure)):
            path = machine.folder / f"{kind}.yaml"
            path.write_text(json.dumps({"$schema": f"{schema}/{kind}.schema.json", **connection}))
            machine.pf("connection", "create", "--file", str(path))
        yield server


def answers(name: str, says: list[str] = SAYS) -> list[dict[str, Any]]:
    return [
        {
            "question": f"{name} {n}? [[{do}]]",
            "answer": f"answer {n} [[{do}]]",
            "ground_truth": f"answer {n}",
            "context": [f"context {n}"],
        }
        for n, do in enumerate(says)
    ]


def uri(machine: Machine) -> str:
    return f"sqlite:///{machine.folder / 'judged.db'}"


def evaluate(machine: Machine, *words: str, code: int | None = 0, **env: str) -> str:
    done = machine.command("pf-mlflow", "evaluate", *words, **{"MLFLOW_TRACKING_URI": uri(machine), **env})
    assert code is None or done.returncode == code, done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    return done.stdout + done.stderr


def base(machine: Machine, name: str, says: list[str]) -> None:
    """A batch whose answers ask for the verdicts: an evaluation flow's own, made by scoring answers in a file."""
    flow = machine.folder / "echo"
    if not flow.exists():
        flow.mkdir()
        (flow / "echo.py").write_text(
            "from promptflow.core import tool\n\n@tool\ndef echo(answer: str) -> str:\n    return answer\n"
        )
        inputs = "".join(f"  {name}:\n    type: string\n" for name in ("answer", "question", "ground_truth"))
        node = "- name: echo\n  type: python\n  source:\n    type: code\n    path: echo.py\n  inputs:\n"
        (flow / "flow.dag.yaml").write_text(
            f"inputs:\n{inputs}outputs:\n  answer:\n    type: string\n    reference: ${{echo.output}}\n"
            f"nodes:\n{node}    answer: ${{inputs.answer}}\n"
        )
    data = machine.data(name, answers(name, says))
    words = ["--flow", str(flow), "--data", str(data), "--name", name]
    mapping = [f"{name}='${{data.{name}}}'" for name in ("answer", "question", "ground_truth")]
    more = [word for pair in mapping for word in ("--column-mapping", pair)]
    done = machine.command("pf-mlflow", "run", *words, *more, MLFLOW_TRACKING_URI=uri(machine))
    assert done.returncode == 0, done.stdout + done.stderr


def shown(machine: Machine, name: str, evaluation: str) -> Tracked:
    until(
        lambda: tracked(uri(machine), name).parent.data.tags.get("promptflow.evaluation") == evaluation,
        "it is over",
        30,
    )
    return tracked(uri(machine), name)


def assert_exact(batch: Tracked, errors: dict[int, int] = ERRORS) -> None:
    ratings = {name: batch.column("tags", f"{JUDGED}/{name}/rating") for name in JUDGES}
    told = {name: batch.column("tags", f"{JUDGED}/{name}/error") for name in JUDGES}
    for n in range(len(SAYS)):
        failed = [name for name in JUDGES if told[name][n] is not None]
        assert len(failed) == errors.get(n, 0), (n, failed)
        given = {name: ratings[name][n] for name in JUDGES if name not in failed}
        assert given == {name: "no" if FAILS.get(n) == name else "yes" for name in given}, n
        assert all(ratings[name][n] is None for name in failed)
    overall = batch.column("tags", "response/overall_assessment/rating")
    expected = [None if errors.get(n) == 4 else "fail" if n in FAILS else "pass" for n in range(len(SAYS))]
    assert overall == expected
    causes = batch.column("tags", "response/overall_assessment/root_cause")
    assert causes == [FAILS.get(n) for n in range(len(SAYS))]
    metrics = batch.parent.data.metrics
    for name in JUDGES:
        given = [rating for rating in ratings[name] if rating]
        assert metrics[f"{JUDGED}/{name}/percentage"] == pytest.approx(given.count("yes") / len(given))
        assert metrics[f"{JUDGED}/{name}/error_count"] == sum(one is not None for one in told[name])
    assert metrics["overall/pass_rate"] == pytest.approx(expected.count("pass") / len([one for one in expected if one]))
    assert metrics["judge/verdicts"] == 4 * len(SAYS) - sum(errors.values())


def test_every_verdict_is_on_its_line_and_summed_up(machine: Machine, judge: JudgeServer) -> None:
    base(machine, "verdicts", SAYS)
    text = evaluate(
        machine, "verdicts", "--name", "judged_verdicts", "--judge-model", MODEL, "--judge-connection", "judge",
        "--column-mapping", "context='${data.context}'",
    )  # fmt: skip
    batch = shown(machine, "verdicts", "judged_verdicts")
    assert_exact(batch)
    metrics, child = batch.parent.data.metrics, batch.children[0].data
    paid = 4 * len(SAYS) - 1  # all but the one that answered 400
    assert metrics["judge/prompt_tokens"] == paid * PROMPT_TOKENS and metrics["judge/cached"] == 0
    assert metrics["judge/total_tokens"] == paid * (PROMPT_TOKENS + COMPLETION_TOKENS)
    assert child.tags[f"{JUDGED}/safety/rationale"] == "told yes" and child.tags[f"{JUDGED}/safety/model"] == MODEL
    assert child.metrics[f"{JUDGED}/safety/seconds"] > 0 and child.metrics[f"{JUDGED}/safety/prompt_tokens"] == 31
    assert metrics["token_f1/v1/count"] == len(SAYS)
    seconds = [
        value
        for run in batch.children.values()
        for key, value in run.data.metrics.items()
        if key.startswith(JUDGED) and key.endswith("/seconds")
    ]
    assert metrics["judge/seconds"] == pytest.approx(sum(seconds)) and len(seconds) == 4 * len(SAYS)
    shown_by_pf = json.loads(machine.pf("run", "show-metrics", "--name", "judged_verdicts").stdout)
    ours = {
        key: value for key, value in metrics.items() if not key.startswith(("lines_t", "lines_c", "lines_f", "dur"))
    }
    assert shown_by_pf == pytest.approx(ours)
    run = batch.parent.info
    mlflow.set_tracking_uri(uri(machine))
    table = MlflowClient(uri(machine)).load_table(run.experiment_id, "eval_results_table.json", [run.run_id])
    assert list(table[f"{JUDGED}/groundedness/rating"][:3]) == ["yes", "no", "yes"]
    assert "no JSON" in table[f"{JUDGED}/safety/error"][4] and table["response/overall_assessment/root_cause"][1]
    assert "pf-mlflow show verdicts --worst METRIC" in text


def test_errors_are_judged_again_and_nothing_else(machine: Machine, judge: JudgeServer) -> None:
    judge.asked.clear()
    evaluate(machine, "verdicts", "--retry-errors", "--name", "judged_again")
    batch = shown(machine, "verdicts", "judged_again")
    assert_exact(batch)
    assert len(judge.asked) == sum(ERRORS.values())
    paid = 4 * len(SAYS) + sum(ERRORS.values()) - 2  # but for those that answered 400
    assert batch.parent.data.metrics["judge/prompt_tokens"] == paid * PROMPT_TOKENS
    assert batch.parent.data.metrics["judge/cached"] == 4 * len(SAYS) - sum(ERRORS.values())
    assert batch.children[0].data.tags[f"{JUDGED}/safety/cached"] == "true"
    judge.asked.clear()
    meant, judge.directive = judge.directive, lambda asked: "yes"  # type: ignore[method-assign]
    evaluate(machine, "verdicts", "--retry-errors", "--name", "judged_at_last")
    judge.directive = meant  # type: ignore[method-assign]
    assert len(judge.asked) == sum(ERRORS.values())
    assert_exact(shown(machine, "verdicts", "judged_at_last"), {})


def test_no_judge_is_asked_about_a_batch_that_somebody_deleted(machine: Machine, judge: JudgeServer) -> None:
    judge.asked.clear()
    client = MlflowClient(uri(machine))
    parent = shown(machine, "verdicts", "judged_at_last").parent.info.run_id
    client.delete_run(parent)
    words = ["--judge-model", "another", "--judge-connection", "judge"]
    text = evaluate(machine, "verdicts", *words, "--name", "judged_in_vain", code=1)
    assert "Somebody deleted" in text and "mlflow runs restore" in text and not judge.asked
    client.restore_run(parent)


def test_content_none_leaves_no_text_of_a_judge(machine: Machine, judge: JudgeServer) -> None:
    data = machine.data("judged_quietly", answers("judged_quietly", ["yes", "prose"]))
    words = [
        "--data",
        str(data),
        "--name",
        "judged_quietly",
        "--judge-model",
        MODEL,
        "--judge-connection",
        "azure_judge",
    ]
    evaluate(machine, *words, PF_MLFLOW_CONTENT="none")
    assert {asked.headers["api-key"] for asked in judge.asked[-8:]} == {KEY}
    batch = tracked(uri(machine), "judged_quietly")
    assert batch.column("tags", f"{JUDGED}/safety/rating") == ["yes", None]
    assert batch.column("tags", f"{JUDGED}/safety/error") == [None, "not told"]
    assert batch.column("tags", f"{JUDGED}/safety/rationale") == [None, None]
    for database in (Path(uri(machine).removeprefix("sqlite:///")), machine.folder / "spool" / "verdicts.db"):
        with sqlite3.connect(database) as db:
            dump = "\n".join(db.iterdump())
        assert KEY not in dump and "answer 1 [[prose]]" not in dump
    assert not [
        path
        for path in (machine.folder / "promptflow" / ".runs").rglob("*")
        if path.is_file() and KEY in path.read_text("utf-8", "ignore")
    ]


@pytest.mark.slow
def test_plain_pf_asks_judges_of_its_own(machine: Machine, judge: JudgeServer) -> None:
    judge.asked.clear()
    (machine.cwd / "brief.yaml").write_text("name: brief\nguidelines: Be brief.\nvalues: [1, 2, 3, 4, 5]\npass: 4\n")
    grades = ["5", "3", "maybe", "4"]
    data = machine.data("graded", answers("graded", grades))
    mapping = ["answer='${data.answer}'", f"metrics='{machine.cwd / 'brief.yaml'}'", f"judge_model={MODEL}"]
    words = ["--flow", str(EVAL), "--data", str(data), "--name", "graded", "--column-mapping", *mapping]
    machine.pf("run", "create", *words, "--connections", "score.connection=judge", MLFLOW_TRACKING_URI=uri(machine))
    batch = tracked(uri(machine), "graded", 40)
    assert batch.column("metrics", "brief/v1") == [5, 3, None, 4]
    assert batch.column("tags", f"{JUDGED}/brief/rating") == ["5", "3", None, "4"]
    assert batch.column("tags", "response/overall_assessment/rating") == ["pass", "fail", None, "pass"]
    metrics = batch.parent.data.metrics
    assert metrics["brief/v1/mean"] == pytest.approx(statistics.fmean([5, 3, 4]))
    assert metrics[f"{JUDGED}/brief/error_count"] == 1 and metrics["overall/pass_rate"] == pytest.approx(2 / 3)
    assert len(judge.asked) == 4 and KEY not in machine.logs("graded")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--metrics", "correctness"], ["correctness is a judge", "--judge-model"]),
        (["--metrics", "own.yaml", "--judge-model", MODEL], ["no judge file", "own.yaml"]),
        (["--retry-errors"], ["--retry-errors needs the batch"]),
    ],
)
def test_bad_input_is_one_sentence(machine: Machine, judge: JudgeServer, words: list[str], says: list[str]) -> None:
    data = machine.data("badly_judged", answers("badly_judged", ["yes"]))
    told = machine.type("evaluate", "--data", str(data), "--name", "badly_judged", *words)
    assert told.exit_code == 1
    text = told.output
    assert len([line for line in text.splitlines() if line.startswith("Error:")]) == 1 and "Traceback" not in text
    assert all(word in " ".join(text.split()) for word in says), text


def test_a_connection_that_is_not_there_is_named(machine: Machine) -> None:
    data = machine.data("unconnected", answers("unconnected", ["yes"]))
    words = ["--data", str(data), "--judge-model", MODEL, "--judge-connection", "nobody"]
    assert "nobody" in evaluate(machine, *words, code=1)


def test_the_offline_model_is_no_judge(new_machine: Any) -> None:
    machine = new_machine()
    data = machine.data("offline", answers("offline", ["yes", "no"]))
    text = evaluate(machine, "--data", str(data), "--name", "offline", "--judge-model", MODEL)
    assert text.count("offline model is no judge") == 1, text
    batch = tracked(uri(machine), "offline")
    assert batch.column("metrics", "token_f1/v1") != [None, None]
    assert not any("judge" in key for run in batch.children.values() for key in [*run.data.tags, *run.data.metrics])
