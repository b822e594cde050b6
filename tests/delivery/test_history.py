"""Batches that ran before anybody thought of MLflow: flows without our nodes, brought in by `pf-mlflow sync --all`."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS, FakeLlm
from machine import FLOWS, Machine, Tracked, runs_of, tracked
from mlflow import MlflowClient

pytestmark = pytest.mark.slow

TOPICS = ["tea", "boom", "milk"]
TOTAL = PROMPT_TOKENS + COMPLETION_TOKENS

BATCHES: dict[str, dict[str, str]] = {
    "untraced": {"flow": "bare"},
    "traced": {"flow": "bare", "PF_DISABLE_TRACING": "false"},
    "flex": {"flow": "flex"},
    # promptflow's own lock does not survive its fork in a prompty
    "prompty": {"flow": "basic.prompty", "PF_DISABLE_TRACING": "false", "PF_BATCH_METHOD": "spawn"},
}


@pytest.fixture(scope="module")
def history(new_machine: Callable[..., Machine], fake_llm: FakeLlm) -> Machine:
    machine = new_machine(FAKE_LLM=fake_llm.base_url)
    machine.connect(fake_llm.base_url)
    data = machine.data("topics", [{"topic": topic} for topic in TOPICS])

    def create(name: str) -> None:
        env = dict(BATCHES[name])
        flow = FLOWS / env.pop("flow")
        words = ["--flow", str(flow), "--data", str(data), "--column-mapping", "topic=${data.topic}", "--name", name]
        machine.pf("run", "create", *words, **env)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(create, BATCHES))
    words = ["--flow", str(FLOWS / "score"), "--run", "traced", "--column-mapping", "answer=${run.outputs.answer}"]
    machine.pf("run", "create", *words, "--name", "score")
    return machine


def sync(machine: Machine, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
    done = machine.command("pf-mlflow", "sync", *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return {batch["name"]: batch for batch in json.loads(done.stdout)["batches"]}


def store(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'mlflow.db'}"


@pytest.fixture(scope="module")
def first(history: Machine) -> dict[str, dict[str, Any]]:
    rehearsed = sync(history, "--all", "--dry-run")
    assert not (history.cwd / "mlflow.db").exists()
    done = sync(history, "--all")
    for name, found in rehearsed.items():
        assert {**found, "seconds": 0, "parent_run_id": 0} == {**done[name], "seconds": 0, "parent_run_id": 0}
    return done


def test_every_batch_is_brought_in_once(history: Machine, first: dict[str, dict[str, Any]]) -> None:
    states = {name: (batch["state"], batch["made"], batch["lines"]) for name, batch in first.items()}
    assert states == {name: ("mended", 3, 3) for name in BATCHES} | {"score": ("evaluation", 0, 0)}
    again = sync(history, "--all")
    assert {name: (one["state"], one["made"], one["parent"]) for name, one in again.items()} == {
        name: ("in line", 0, "") for name in BATCHES
    } | {"score": ("evaluation", 0, "")}
    assert {again[name]["lines"] for name in BATCHES} == {3}


@pytest.fixture(scope="module")
def brought_in(history: Machine, first: dict[str, dict[str, Any]]) -> dict[str, Tracked]:
    return {name: tracked(store(history), name) for name in BATCHES}


@pytest.mark.parametrize(
    ("name", "statuses", "outputs", "tokens", "error"),
    [
        # without tracing promptflow keeps the nodes, but nothing of the calls below them
        ("untraced", "FINISHED FAILED FINISHED", "a joke about", [None, None, None], "ValueError: boom"),
        ("traced", "FINISHED FAILED FINISHED", "a joke about", [TOTAL, TOTAL, TOTAL], "ValueError: boom"),
        ("flex", "FINISHED FAILED FINISHED", "a joke about", [TOTAL, None, TOTAL], "ValueError: boom"),
        ("prompty", "FINISHED FINISHED FINISHED", "a joke about", [TOTAL, TOTAL, TOTAL], None),
    ],
)
def test_lines_of_any_flow(
    brought_in: dict[str, Tracked], name: str, statuses: str, outputs: str, tokens: list[int | None], error: str | None
) -> None:
    batch = brought_in[name]
    assert [batch.children[number].info.status for number in range(3)] == statuses.split()
    assert batch.column("params", "input_topic") == TOPICS
    assert batch.children[0].data.params["output"] == f"{outputs} tea"
    assert batch.column("metrics", "total_tokens") == tokens
    assert batch.children[1].data.tags.get("promptflow.error") == error
    assert all(duration > 0 for duration in batch.column("metrics", "line_duration"))
    assert batch.parent.data.metrics["lines_failed"] == statuses.split().count("FAILED")
    assert batch.parent.data.params["data"] == "topics.jsonl"


def test_times_are_those_of_the_batch(brought_in: dict[str, Tracked]) -> None:
    for batch in brought_in.values():
        start, end = batch.parent.info.start_time, batch.parent.info.end_time
        for child in batch.children.values():
            assert start - 1000 <= child.info.start_time <= child.info.end_time <= end + 1000


def test_an_evaluation_makes_no_second_set_of_children(history: Machine, first: dict[str, dict[str, Any]]) -> None:
    assert not runs_of(store(history), "score")


def test_what_is_found_broken_is_mended(history: Machine, brought_in: dict[str, Tracked]) -> None:
    client = MlflowClient(store(history))
    batch = brought_in["traced"]
    experiment = batch.parent.info.experiment_id
    client.delete_run(batch.children[0].info.run_id)
    tags = {key: value for key, value in batch.children[1].data.tags.items() if key != "mlflow.runName"}
    client.create_run(experiment, batch.children[1].info.start_time, tags, "Run 000000001")
    client.update_run(batch.children[2].info.run_id, status="RUNNING")
    client.update_run(batch.parent.info.run_id, status="RUNNING")
    expected = {"state": "mended", "made": 1, "completed": 1, "removed": 1, "parent": "ended", "lines": 3}
    for words in (["traced", "--dry-run"], ["traced"]):
        found = sync(history, *words)["traced"]
        assert {key: found[key] for key in expected} == expected
    mended = tracked(store(history), "traced")
    assert [mended.children[number].info.status for number in range(3)] == ["FINISHED", "FAILED", "FINISHED"]
    assert mended.children[1].info.run_id == batch.children[1].info.run_id
    assert mended.children[2].info.end_time == batch.children[2].info.end_time
    assert mended.parent.data.metrics == batch.parent.data.metrics
    assert sync(history, "traced")["traced"]["state"] == "in line"


def test_a_parent_that_alone_was_deleted_stays_so_until_it_is_restored(
    history: Machine, brought_in: dict[str, Tracked]
) -> None:
    client, parent = MlflowClient(store(history)), brought_in["prompty"].parent.info.run_id
    client.delete_run(parent)
    assert sync(history, "prompty")["prompty"]["state"] == "deleted"
    client.restore_run(parent)
    assert sync(history, "prompty")["prompty"]["state"] == "in line"


def test_a_batch_deleted_in_mlflow_stays_deleted(history: Machine, brought_in: dict[str, Tracked]) -> None:
    client = MlflowClient(store(history))
    for run in runs_of(store(history), "flex"):
        client.delete_run(run.info.run_id)
    assert sync(history, "flex")["flex"]["state"] == "deleted"
    assert not runs_of(store(history), "flex")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nobody"], 1, "no batch 'nobody'"),
        (["untraced", "--all"], 2, "not both"),
        (["--never"], 2, "--never"),
        ([], 0, "Nothing is left over"),
        (["untraced"], 0, "Nothing to do: MLflow is in line."),
    ],
)
def test_command_line(history: Machine, brought_in: dict[str, Tracked], words: list[str], code: int, says: str) -> None:
    done = history.command("pf-mlflow", "sync", *words)
    assert done.returncode == code and says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
