"""The same runs on every kind of store, by fork and by spawn, and how many requests they cost."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS
from machine import ROOT, Machine, runs_of, tracked
from servers import CountingProxy

LINES = 24


def create(machine: Machine, name: str, topics: list[str], **env: str) -> None:
    data = machine.data(name, [{"topic": topic} for topic in topics])
    mapping = "topic=${data.topic}"
    words = ["run", "create", "--flow", str(ROOT), "--data", str(data), "--column-mapping", mapping, "--name", name]
    machine.pf(*words, **env)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("store", "method"),
    [
        ("sqlite", "fork"),
        pytest.param("sqlite", "spawn", marks=pytest.mark.slow),
        *(
            pytest.param(store, method, marks=pytest.mark.slow)
            for store in ("postgres_server", "server")
            for method in ("fork", "spawn")
        ),
    ],
)
def test_a_batch_is_exact(machine: Machine, request: pytest.FixtureRequest, store: str, method: str) -> None:
    uri = request.getfixturevalue(store)
    name = f"exact_{store}_{method}"
    topics = [f"{method} topic {number} 🙂\0" for number in range(LINES)]
    workers = "6" if method == "fork" else "3"  # each of which imports promptflow anew
    create(machine, name, topics, MLFLOW_TRACKING_URI=uri, PF_BATCH_METHOD=method, PF_WORKER_COUNT=workers)
    batch = tracked(uri, name)
    assert batch.column("params", "input_topic") == [topic.replace("\0", "␀") for topic in topics]
    assert batch.column("metrics", "total_tokens") == LINES * [PROMPT_TOKENS + COMPLETION_TOKENS]
    assert [child.info.status for child in batch.children.values()] == LINES * ["FINISHED"]
    assert batch.parent.data.metrics["lines_completed"] == LINES


def test_a_line_costs_three_requests(machine: Machine, proxy: CountingProxy) -> None:
    create(machine, "counted", [f"topic {number}" for number in range(LINES)], MLFLOW_TRACKING_URI=proxy.uri)
    batch = tracked(proxy.uri, "counted")
    ids = {child.info.run_id for child in batch.children.values()}
    of_children = [
        path.rpartition("/")[2]
        for _, path, body in proxy.requests
        if body and not path.endswith("set-experiment-tag")
        if b"mlflow.parentRunId" in body or json.loads(body).get("run_id") in ids
    ]
    assert sorted(of_children) == LINES * ["create"] + LINES * ["log-batch"] + LINES * ["update"]


@pytest.mark.slow
def test_a_lost_answer_makes_no_second_run(machine: Machine, proxy: CountingProxy) -> None:
    proxy.lost.update({"runs/create": 4, "runs/log-batch": 3, "runs/update": 3})
    create(machine, "lost", [f"topic {number}" for number in range(LINES)], MLFLOW_TRACKING_URI=proxy.uri)
    batch = tracked(proxy.uri, "lost")
    assert proxy.lost.total() == 0
    assert batch.column("params", "input_topic") == [f"topic {number}" for number in range(LINES)]
    assert {child.info.status for child in batch.children.values()} == {"FINISHED"}


def test_lines_show_as_running_while_they_run(machine: Machine, server: str) -> None:
    topics = [f"[[latency=3]] topic {number}" for number in range(8)]
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(create, machine, "running", topics, MLFLOW_TRACKING_URI=server)
        seen: dict[str, set[str]] = {}
        while not batch.done():
            for run in runs_of(server, "running"):
                seen.setdefault(run.info.run_name, set()).add(run.info.status)
            time.sleep(0.2)
        batch.result()
    assert seen.pop("running") >= {"RUNNING"}  # the parent
    later = {name: statuses for name, statuses in seen.items() if name >= "Run 000000004"}
    assert len(later) == 4 and all("RUNNING" in statuses for statuses in later.values())
    children = tracked(server, "running").children
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    told = {output["line_number"]: output["child_run_id"] for output in machine.outputs("running")}
    assert {number: told[number] for number in range(4, 8)} == {n: children[n].info.run_id for n in range(4, 8)}


def test_a_killed_batch_is_over_in_mlflow_too(machine: Machine, server: str) -> None:
    data = machine.data("killed", [{"topic": f"[[latency=4]] topic {number}"} for number in range(12)])
    words = ["run", "create", "--flow", str(ROOT), "--data", str(data), "--column-mapping", "topic=${data.topic}"]
    client = machine.start("pf", *words, "--name", "killed", MLFLOW_TRACKING_URI=server)
    until = time.monotonic() + 60
    while not any(run.info.status == "FINISHED" for run in runs_of(server, "killed")):
        assert time.monotonic() < until and client.poll() is None
        time.sleep(0.2)
    client.kill()
    client.wait(10)
    batch = tracked(server, "killed", patience=30)
    os.killpg(client.pid, signal.SIGKILL)  # promptflow's own workers, which wait for the dead
    assert batch.parent.info.status == "KILLED"
    statuses = [child.info.status for child in batch.children.values()]
    assert set(statuses) == {"FINISHED"} and 4 <= len(statuses) < 12  # the workers ended what they had begun
    assert batch.parent.data.metrics["lines_total"] == len(statuses)


@pytest.mark.slow
def test_two_batches_at_once_into_one_fresh_sqlite_file(machine: Machine) -> None:
    uri = f"sqlite:///{machine.cwd / 'fresh' / 'two.db'}"
    (machine.cwd / "fresh").mkdir()
    names = ["one", "other"]
    with ThreadPoolExecutor(2) as pool:
        batches = [
            pool.submit(create, machine, name, [f"{name} {i}" for i in range(12)], MLFLOW_TRACKING_URI=uri)
            for name in names
        ]
        for batch in batches:
            batch.result()
    for name in names:
        assert tracked(uri, name).column("params", "input_topic") == [f"{name} {i}" for i in range(12)]


@pytest.mark.slow
def test_batches_of_one_name_from_two_homes_are_told_apart(
    machine: Machine, new_machine: Callable[..., Machine], server: str
) -> None:
    other = new_machine()
    other.connect(machine.env["FAKE_LLM"])
    for home, topic in [(machine, "mine"), (other, "theirs")]:
        create(home, "namesake", [f"{topic} {i}" for i in range(5)], MLFLOW_TRACKING_URI=server)
    until = time.monotonic() + 120
    while len(runs := runs_of(server, "namesake")) < 12 or any(r.info.status == "RUNNING" for r in runs):
        assert time.monotonic() < until
        time.sleep(0.2)
    by_uid: dict[str, list[str]] = {}
    for run in runs:
        topic = run.data.params.get("input_topic", "parent")
        by_uid.setdefault(run.data.tags["promptflow.batch_uid"], []).append(topic)
    expected = [["parent", *(f"{topic} {i}" for i in range(5))] for topic in ("mine", "theirs")]
    assert sorted(sorted(topics) for topics in by_uid.values()) == sorted(sorted(topics) for topics in expected)
