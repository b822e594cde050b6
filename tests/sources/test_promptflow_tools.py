"""The flow by promptflow's own commands, as its users type them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS
from machine import FLOWS, ROOT, Machine, Tracked, await_tables, tracked
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import free_port

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS


PAGE = (ROOT / "docs" / "promptflow.md").read_text("utf-8")
LOOK = (ROOT / "docs" / "look.md").read_text("utf-8")


def of_docs(beginning: str) -> list[str]:
    """The words of a command that the docs show, after `pf`."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"pf {beginning}"))
    return shlex.split(line)[1:]


def store(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'mlflow.db'}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the flow package as git has it, so that commands run in it leave no trace here."""
    folder = tmp_path_factory.mktemp("checkout") / "jokes"
    left_out = shutil.ignore_patterns(".*", "mlruns", "mlflow.db*", "__pycache__", "process_log")
    shutil.copytree(ROOT, folder, ignore=left_out)
    for name in (".amlignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    lines = (folder / "data" / "topics.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "data" / "topics.jsonl").write_text("".join([*lines[:5], *lines[-3:]]), "utf-8")
    return folder


def test_validate(machine: Machine, checkout: Path) -> None:
    done = machine.command("pf", *of_docs("flow validate"), cwd=checkout)
    assert done.returncode == 0 and "error" not in done.stdout.lower(), done.stdout


def test_a_single_execution_logs_nothing(machine: Machine, checkout: Path) -> None:
    done = machine.pf(*of_docs("flow test"), "--inputs", "topic=tea", cwd=checkout)
    assert '"joke": "a joke about tea"' in done.stdout and '"child_run_id": ""' in done.stdout
    assert not (checkout / "mlflow.db").exists()


def test_a_single_execution_is_one_run_on_request(machine: Machine, checkout: Path) -> None:
    machine.pf("flow", "test", "--flow", ".", "--inputs", "topic=tea", cwd=checkout, PF_MLFLOW_LOG_SINGLE_RUNS="true")
    (run,) = _finished_runs(f"sqlite:///{checkout / 'mlflow.db'}", "jokes", 1)
    assert "mlflow.parentRunId" not in run.data.tags and "promptflow.line_number" not in run.data.tags
    assert run.data.params["input_topic"] == "tea" and run.data.params["output"] == "a joke about tea"
    assert run.data.metrics["total_tokens"] == TOKENS and run.info.status == "FINISHED"


def test_a_single_execution_without_tracing_logs_nothing(machine: Machine, checkout: Path, tmp_path: Path) -> None:
    env = {"PF_MLFLOW_LOG_SINGLE_RUNS": "true", "PF_DISABLE_TRACING": "true"}
    words = ["flow", "test", "--flow", str(checkout), "--inputs", "topic=tea"]
    done = machine.pf(*words, "--environment-variables", "PF_DISABLE_TRACING=true", cwd=tmp_path, **env)
    assert '"child_run_id": ""' in done.stdout and "tracing is off" in done.stdout
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_a_store_is_where_the_command_was_typed_whatever_its_starter_was_in(
    machine: Machine, checkout: Path, tmp_path: Path
) -> None:
    machine.pf(*of_docs("run create --flow ."), "--name", "foreign", cwd=checkout, PWD=str(tmp_path))
    assert sorted(tracked(f"sqlite:///{checkout / 'mlflow.db'}", "foreign").children)
    assert not (tmp_path / "mlflow.db").exists()


def _finished_runs(uri: str, experiment: str, count: int, patience: float = 30.0) -> list[Run]:
    await_tables(uri)
    client = MlflowClient(uri)
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if found := client.get_experiment_by_name(experiment):
            done = [r for r in client.search_runs([found.experiment_id]) if r.info.status != "RUNNING"]
            if len(done) >= count:
                assert len(done) == count
                return done
        time.sleep(0.3)
    raise AssertionError(f"{count} runs were not logged")


@pytest.fixture(scope="module")
def by_file(machine: Machine, checkout: Path) -> Tracked:
    machine.pf(*of_docs("run create --file run.yml"), "--name", "by_file", cwd=checkout)
    return tracked(f"sqlite:///{checkout / 'mlflow.db'}", "by_file")


def test_a_batch_by_file(by_file: Tracked) -> None:
    assert len(by_file.children) == 8
    assert by_file.column("params", "input_topic")[0] == "atom"
    assert by_file.parent.data.tags["mlflow.source.name"] == "jokes"


def test_a_batch_by_options(machine: Machine, checkout: Path) -> None:
    done = machine.pf(*of_docs("run create --flow ."), "--name", "by_options", cwd=checkout)
    uri = f"sqlite:///{checkout / 'mlflow.db'}"
    assert uri in done.stderr
    assert len(tracked(uri, "by_options").children) == 8


def test_the_docs_search_finds_the_slowest_lines(by_file: Tracked, machine: Machine, checkout: Path) -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", LOOK, re.DOTALL) if "search_runs" in block]
    done = machine.command("python", "-c", code, cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert "params.input_topic" in done.stdout and "FINISHED" in done.stdout


def test_the_snapshot_is_small_and_sufficient(by_file: Tracked, machine: Machine, tmp_path: Path) -> None:
    snapshot = machine.folder / "promptflow" / ".runs" / "by_file" / "snapshot"
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_400_000  # 291 kB of them are syllables of words
    names = {path.name for path in snapshot.iterdir()}
    assert {"flow.dag.yaml", "joke.jinja2", "requirements.txt", "nodes", "pf_mlflow"} <= names
    assert not {"tests", "benchmarks", "mlflow.db"} & names
    copy = tmp_path / "uploaded"
    shutil.copytree(snapshot, copy)
    node = copy / "nodes" / "finalize.py"
    telling = node.read_text("utf-8").replace('"result": result', '"result": __import__("pf_mlflow").__file__')
    node.write_text(telling, "utf-8")
    done = machine.pf("flow", "test", "--flow", str(copy), "--inputs", "topic=tea")
    assert str(copy / "pf_mlflow" / "__init__.py") in done.stdout


@pytest.mark.slow
def test_a_resumed_batch_copies_what_was_finished(machine: Machine, checkout: Path) -> None:
    data = machine.data("resume", [{"topic": "fine"}, {"topic": "[[raise=boom]]"}, {"topic": "[[status=401]]"}])
    flow, mapping = str(FLOWS / "edge"), "topic=${data.topic}"
    machine.pf("run", "create", "--flow", flow, "--data", str(data), "--column-mapping", mapping, "--name", "halted")
    assert [c.info.status for c in tracked(store(machine), "halted").children.values()].count("FAILED") == 2
    machine.pf("run", "create", "--resume-from", "halted", "--name", "resumed")
    resumed = tracked(store(machine), "resumed")
    assert resumed.column("tags", "promptflow.copied_from") == ["halted", None, None]
    assert resumed.column("params", "input_topic") == ["fine", "[[raise=boom]]", "[[status=401]]"]
    assert resumed.children[0].data.metrics["total_tokens"] == TOKENS
    assert resumed.parent.data.metrics["lines_total"] == 3


def test_several_nodes_variant_and_sdk(machine: Machine) -> None:
    turn = {"inputs": {"question": "Who?"}, "outputs": {"answer": "Ada."}}
    data = machine.data(
        "several", [{"question": "When?", "chat_history": [turn]}, {"question": "[[status=401]]", "chat_history": []}]
    )
    words = ["run", "create", "--flow", str(FLOWS / "several"), "--data", str(data), "--name", "several"]
    mapping = ["question=${data.question}", "chat_history=${data.chat_history}"]
    machine.pf(*words, "--column-mapping", *mapping, "--variant", "${rewrite.terse}")
    batch = tracked(store(machine), "several")
    assert batch.parent.data.params["variant"] == "${rewrite.terse}"
    answered, refused = batch.children[0].data, batch.children[1].data
    rewritten = "a joke about Rewrite tersely: When? (after 1 turns)"
    assert answered.params["rewrite.output"] == rewritten
    assert json.loads(answered.params["rewrite.input_chat_history"]) == [turn]
    assert answered.params["research.input_connection"] == "open_ai_connection"
    assert set(json.loads(answered.params["research.output"])) == {"history", "physics"}
    assert answered.params["output"] == answered.params["answer.output"]
    nodes = {"rewrite": TOKENS, "research": 2 * TOKENS, "answer": TOKENS}
    assert {node: answered.metrics[f"{node}.total_tokens"] for node in nodes} == nodes
    assert answered.metrics["total_tokens"] == sum(nodes.values()) == batch.parent.data.metrics["total_tokens"]
    assert answered.metrics["duration"] >= max(answered.metrics[f"{node}.duration"] for node in nodes) > 0
    assert refused.params["rewrite.input_question"] == refused.params["input_question"] == "[[status=401]]"
    assert refused.tags["promptflow.error_type"] == "AuthenticationError"


def test_from_python(machine: Machine, checkout: Path) -> None:
    script = machine.cwd / "batch.py"
    script.write_text(
        "from promptflow.client import PFClient\n"
        "if __name__ == '__main__':\n"
        f"    PFClient().run(flow={str(checkout)!r}, data={str(checkout / 'data' / 'topics.jsonl')!r}, "
        "column_mapping={'topic': '${data.topic}'}, name='from_python')\n"
    )
    done = machine.command("python", str(script), PF_WORKER_COUNT="2")
    assert done.returncode == 0, done.stderr
    assert len(tracked(store(machine), "from_python").children) == 8


def test_served_as_an_endpoint(machine: Machine, checkout: Path, tmp_path: Path) -> None:
    with _served(machine, checkout, tmp_path) as port:
        assert _ask(port, "tea") == {"joke": "a joke about tea", "child_run_id": ""}
    assert not (tmp_path / "mlflow.db").exists()


def test_each_answer_of_an_endpoint_is_a_run_on_request(machine: Machine, checkout: Path, tmp_path: Path) -> None:
    with _served(machine, checkout, tmp_path, PF_MLFLOW_LOG_SINGLE_RUNS="true") as port:
        assert [_ask(port, topic)["joke"] for topic in ("tea", "milk")] == ["a joke about tea", "a joke about milk"]
        runs = _finished_runs(f"sqlite:///{tmp_path / 'mlflow.db'}", "jokes", 2)
    assert {run.data.params["input_topic"] for run in runs} == {"tea", "milk"}
    assert len({run.data.tags["promptflow.run_id"] for run in runs}) == 2


@contextmanager
def _served(machine: Machine, checkout: Path, cwd: Path, **env: str) -> Iterator[int]:
    port = free_port()
    words = ["flow", "serve", "--source", str(checkout), "--port", str(port), "--skip-open-browser"]
    process = machine.start("pf", *words, cwd=cwd, **env)
    try:
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def _ask(port: int, topic: str, patience: float = 60.0) -> dict[str, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/score", json.dumps({"topic": topic}).encode(), {"Content-Type": "application/json"}
    )
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, str] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            assert time.monotonic() < until, "the endpoint does not answer"
            time.sleep(0.5)
