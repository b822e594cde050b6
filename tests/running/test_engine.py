"""`pf-mlflow run` executes lines in threads: the same batch as promptflow's own pool makes, and no two lines mixed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS, FakeLlm
from machine import FLOWS, Machine, Tracked, tracked

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
CHATTY = FLOWS / "chatty"
AT_ONCE = 64


def run(
    machine: Machine, flow: Path, lines: list[dict[str, Any]], name: str, *words: str, **env: str
) -> tuple[int, Any]:
    data = machine.data(name, lines)
    command = ["pf-mlflow", "run", "--flow", str(flow), "--data", str(data), "--name", name, "--json", *words]
    done = machine.command(*command, **env)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def store(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'mlflow.db'}"


def folder(machine: Machine, batch: str) -> Path:
    return machine.folder / "promptflow" / ".runs" / batch


def line(number: int, directive: str = "") -> dict[str, Any]:
    mark = f"mark{number:03}{directive}"
    return {"topic": mark, "number": number, "more": {"inner": [f"more-{mark}"]}}


@pytest.fixture(scope="module")
def many(machine: Machine, fake_llm: FakeLlm) -> Tracked:
    """A batch of 3 x 64 lines, 64 at once, of which two fail."""
    lines = [line(number, "[[latency=0.3]]") for number in range(3 * AT_ONCE)]
    lines[5] = line(5, "[[raise=no5]]")
    lines[70] = line(70, "[[exit=3]]")
    code, told = run(machine, CHATTY, lines, "many", "--concurrency", str(AT_ONCE))
    assert code == 3 and told["lines_failed"] == 2, told
    return tracked(store(machine), "many")


def test_no_two_lines_mix(machine: Machine, many: Tracked) -> None:
    """Whatever is kept of a line names that line alone, wherever it is kept."""
    kept = folder(machine, "many")
    for number in range(3 * AT_ONCE):
        own = f"mark{number:03}"
        texts = {
            "child run": json.dumps([many.children[number].data.params, many.children[number].data.tags]),
            "line record": (kept / "flow_artifacts" / f"{number:09}_{number:09}.jsonl").read_text(),
            "log": (kept / "flow_logs" / f"{number:09}.log").read_text(),
            **{node: (kept / "node_artifacts" / node / f"{number:09}.jsonl").read_text() for node in ("tell", "joke")},
        }
        for where, text in texts.items():
            assert set(re.findall(r"mark\d{3}", text)) == {own}, (number, where)
        printed = json.loads(texts["tell"])["run_info"]["logs"]
        assert [len(re.findall(own, printed[stream])) for stream in ("stdout", "stderr")] == [3, 3]
        assert f"out {own}" in texts["log"]
        assert many.children[number].data.params["input_topic"].startswith(own)


def test_each_line_has_its_numbers(many: Tracked) -> None:
    assert sorted(many.children) == list(range(3 * AT_ONCE))
    assert set(many.column("metrics", "total_tokens")) == {TOKENS}
    metrics = many.parent.data.metrics
    assert (metrics["lines_completed"], metrics["lines_failed"]) == (3 * AT_ONCE - 2, 2)
    assert metrics["total_tokens"] == 3 * AT_ONCE * TOKENS


def test_a_line_that_fails_or_exits_fails_alone(machine: Machine, many: Tracked) -> None:
    failed = {number: run for number, run in many.children.items() if run.info.status != "FINISHED"}
    errors = {number: run.data.tags["promptflow.error"] for number, run in failed.items()}
    assert errors == {5: "ValueError: no5", 70: errors[70]} and errors[70].startswith("SystemExit: ")
    outputs = machine.outputs("many")
    assert [one["line_number"] for one in outputs] == [n for n in range(3 * AT_ONCE) if n not in failed]


def test_promptflow_sums_it_up(machine: Machine, many: Tracked) -> None:
    shown = json.loads(machine.pf("run", "show-metrics", "--name", "many").stdout)
    done = [number for number in range(3 * AT_ONCE) if number not in (5, 70)]
    assert shown == {"sum": sum(done), "jokes": len(done)}
    summing = json.loads((folder(machine, "many") / "node_artifacts" / "count" / "000000000.jsonl").read_text())
    assert f"counted {len(done)}" in summing["run_info"]["logs"]["stdout"]


@pytest.fixture(scope="module")
def twins(machine: Machine) -> tuple[Path, Path]:
    """The folders of one batch, executed by processes and by threads."""
    lines = [line(0), line(1, "[[raise=no]]"), line(2, "[[usage=none]]"), line(3, "[[status=400]]")]
    for engine in ("processes", "threads"):
        code, _ = run(machine, CHATTY, lines, f"twin_{engine}", "--engine", engine)
        assert code == 3
    return folder(machine, "twin_processes"), folder(machine, "twin_threads")


def test_promptflow_keeps_the_same_of_it(twins: tuple[Path, Path]) -> None:
    processes, threads = (
        {str(path.relative_to(top)): _comparable(path) for path in top.rglob("*") if path.is_file()} for top in twins
    )
    assert processes.keys() == threads.keys()
    for path in processes.keys() - {"logs.txt"}:
        assert threads[path] == processes[path], path


def _comparable(path: Path) -> Any:
    text = re.sub(r"twin_(processes|threads)", "twin", path.read_text("utf-8"))
    if path.suffix == ".log":  # what nodes that run at once log comes in any order
        rows = (re.sub(r"^\S+ \S+ \S+ +\d+ ", "", row) for row in text.splitlines())
        return sorted(row for row in rows if "Current thread is not main" not in row and "imeout" not in row)
    if path.suffix in (".json", ".jsonl"):
        return [_timeless(json.loads(row)) for row in text.splitlines()]
    return text


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        varying = re.compile("time|duration|^logs$|(^|_)id$|stackTrace|otel|debugInfo")
        return {key: "…" if varying.search(key) else _timeless(inner) for key, inner in value.items()}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def test_mlflow_shows_the_same_of_it(machine: Machine, twins: tuple[Path, Path]) -> None:
    processes, threads = (tracked(store(machine), f"twin_{engine}") for engine in ("processes", "threads"))
    for number, run_of_line in threads.children.items():
        other = processes.children[number]
        assert run_of_line.info.status == other.info.status
        for kind in ("params", "tags"):
            mine, theirs = getattr(run_of_line.data, kind), getattr(other.data, kind)
            varying = {"run_display_name", "promptflow.run_id", "promptflow.batch_uid", "mlflow.parentRunId"}
            assert {k: v for k, v in mine.items() if k not in varying} == {
                k: v for k, v in theirs.items() if k not in varying
            }, number
        assert run_of_line.data.metrics.keys() == other.data.metrics.keys()


@pytest.mark.parametrize("flow", ["async_dag", "async_flex"])
def test_lines_of_an_async_flow_are_coroutines(machine: Machine, flow: str) -> None:
    lines = [{"topic": f"topic {number}"} for number in range(20)] + [{"topic": "hang"}]
    code, told = run(machine, FLOWS / flow, lines, flow, "--concurrency", "21", "--line-timeout", "4")
    assert code == 3 and told["lines_failed"] == 1, told
    threads = {one["answer"].rpartition(" ")[2] for one in machine.outputs(flow)}
    assert len(threads) == 1
    children = tracked(store(machine), flow).children
    assert children[20].data.tags["promptflow.error_type"] == "LineExecutionTimeoutError"
    starts = [run.info.start_time for run in children.values()]
    assert max(starts) - min(starts) < 1000  # ms: they waited a second each, at once


LEAVING = """
import sys
from promptflow.core import tool

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

@tool
{kind}def act(topic: str) -> str:
    if topic == "exit":
        sys.exit(0)
    if topic == "mute":
        raise Mute
    return topic
"""


@pytest.mark.parametrize("kind", ["", "async "])
def test_whatever_a_node_raises_its_line_has_one_result(machine: Machine, tmp_path: Path, kind: str) -> None:
    dag = (FLOWS / "async_dag" / "flow.dag.yaml").read_text().replace("wait", "act")
    (tmp_path / "flow.dag.yaml").write_text(dag)
    (tmp_path / "act.py").write_text(LEAVING.format(kind=kind))
    name = f"leaving_{bool(kind)}"
    code, told = run(machine, tmp_path, [{"topic": topic} for topic in ("tea", "exit", "mute", "milk")], name)
    assert (code, told["lines_completed"], told["lines_failed"]) == (3, 2, 2), told
    assert tracked(store(machine), name).column("tags", "promptflow.error_type") == [None, "SystemExit", "Mute", None]


def test_a_class_takes_its_arguments_and_sums_up(machine: Machine) -> None:
    lines = [{"topic": f"topic {number}"} for number in range(12)]
    code, _ = run(machine, FLOWS / "class_flex", lines, "class_flex", "--init", "mark=!")
    assert code == 0
    assert [one["answer"] for one in machine.outputs("class_flex")] == [f"topic {number}!" for number in range(12)]
    assert json.loads(machine.pf("run", "show-metrics", "--name", "class_flex").stdout) == {"lines": 12}
    assert tracked(store(machine), "class_flex").parent.data.metrics["lines"] == 12
    for number in range(12):
        log = (folder(machine, "class_flex") / "flow_logs" / f"{number:09}.log").read_text()
        assert re.findall(r"printed topic \d+", log) == [f"printed topic {number}"]


def test_a_prompty(machine: Machine) -> None:
    lines = [{"topic": f"topic {number}"} for number in range(3)]
    code, told = run(machine, FLOWS / "basic.prompty", lines, "prompty")
    assert code == 0 and told["tokens"]["total_tokens"] == 3 * TOKENS
    children = tracked(store(machine), "prompty").children
    assert [children[number].data.params["input_topic"] for number in range(3)] == [f"topic {n}" for n in range(3)]


def test_images_are_files_as_ever(machine: Machine, tmp_path: Path) -> None:
    flow = shutil.copytree(FLOWS / "public" / "images", tmp_path / "images")
    lines = [json.loads(row) for row in (flow / "data.jsonl").read_text().splitlines()]
    code, _ = run(machine, flow, lines, "engine_images")
    assert code == 0
    outputs = machine.outputs("engine_images")
    named = re.findall(r"'data:image/png;path': '([0-9a-f-]{36}\.png)'", str(outputs))
    assert len(named) == len(lines)
    assert all((folder(machine, "engine_images") / "flow_outputs" / name).stat().st_size > 0 for name in named)


@pytest.mark.slow
def test_a_process_that_dies_costs_the_line_that_it_executed_and_no_other(machine: Machine) -> None:
    lines = [line(number, "[[die=3]]" if number in (1, 5) else "") for number in range(10)]
    code, told = run(machine, CHATTY, lines, "died", "--engine", "processes", "--concurrency", "2")
    assert code == 3 and told["lines_failed"] == 2, told
    batch = tracked(store(machine), "died")
    failed = {
        number: run.data.tags["promptflow.error_type"]
        for number, run in batch.children.items()
        if run.info.status == "FAILED"
    }
    assert failed == {1: "ProcessCrashError", 5: "ProcessCrashError"}
    completed = [number for number in range(10) if number not in failed]
    assert [one["line_number"] for one in machine.outputs("died")] == completed
    for number, run_of_line in batch.children.items():
        assert run_of_line.data.params["input_topic"].startswith(f"mark{number:03}")
