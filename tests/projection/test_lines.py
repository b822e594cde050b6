"""What a line's child run shows, whatever the line did: one batch on an SQLite file, read back from MLflow."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS
from machine import FLOWS, SECRET, Machine, Tracked, tracked
from servers import free_port

LONG = "long " + "あ" * 200_000 + " end"
STRANGE = "nul \0, emoji 😀, 日本語"

# topic, status, error type, what the error says
LINES: dict[str, tuple[str, str, str | None, str]] = {
    "plain": ("plain", "FINISHED", None, ""),
    "long": (LONG, "FINISHED", None, ""),
    "strange": (STRANGE, "FINISHED", None, ""),
    "says strange": (f"[[say={json.dumps(STRANGE)}]]", "FINISHED", None, ""),
    "empty": ('[[say=""]]', "FINISHED", None, ""),
    "gives none": ("[[give=none]]", "FINISHED", None, ""),
    "gives dict": ("[[give=dict]]", "FINISHED", None, ""),
    "gives list": ("[[give=list]]", "FINISHED", None, ""),
    "gives infinity": ("[[give=infinity]]", "FINISHED", None, ""),
    "is mlflow loaded": ("[[give=mlflow]]", "FINISHED", None, ""),
    "no usage": ("[[usage=none]]", "FINISHED", None, ""),
    "empty usage": ("[[usage=empty]]", "FINISHED", None, ""),
    "nested usage": ("[[usage=nested]]", "FINISHED", None, ""),
    "malformed usage": ("[[usage=text]]", "FINISHED", None, ""),
    "negative usage": ("[[usage=negative]]", "FINISHED", None, ""),
    "wrong key": ("[[status=401]]", "FAILED", "AuthenticationError", "401"),
    "no quota": ("[[status=429]]", "FAILED", "RateLimitError", "quota"),
    "filtered": ("[[status=400]]", "FAILED", "BadRequestError", "content management policy"),
    "server error": ("[[status=500]]", "FAILED", "LineExecutionTimeoutError", "7 seconds"),
    "hangs": ("[[hang=9]]", "FAILED", "LineExecutionTimeoutError", "7 seconds"),
    "own error": ("[[raise=boom]]", "FAILED", "ValueError", "boom"),
    "killed": ("[[kill=yes]]", "FAILED", "ProcessCrashError", "crash"),
}
NAMES = list(LINES)


@pytest.fixture(scope="module")
def batch(machine: Machine) -> Tracked:
    data = machine.data("lines", [{"topic": topic} for topic, *_ in LINES.values()])
    mapping = "topic=${data.topic}"
    words = ["run", "create", "--flow", str(FLOWS / "edge"), "--data", str(data), "--column-mapping", mapping]
    machine.pf(*words, "--name", "lines", "--set", "display_name=All kinds of lines", PF_LINE_TIMEOUT_SEC="7")
    return tracked(store(machine), "lines")


def store(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'mlflow.db'}"


def test_every_line_has_one_child_run(batch: Tracked) -> None:
    assert sorted(batch.children) == list(range(len(LINES)))
    names = [batch.children[number].info.run_name for number in sorted(batch.children)]
    assert names == [f"Run {number:09}" for number in range(len(LINES))]


@pytest.mark.parametrize("name", NAMES)
def test_status_and_error(batch: Tracked, name: str) -> None:
    _, status, error_type, error = LINES[name]
    child = batch.children[NAMES.index(name)]
    assert child.info.status == status
    assert child.data.tags.get("promptflow.error_type") == error_type
    assert error.lower() in child.data.tags.get("promptflow.error", "").lower()
    assert child.info.end_time >= child.info.start_time


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_kept_whatever_happened(batch: Tracked, name: str) -> None:
    topic = LINES[name][0].replace("\0", "␀")
    told = batch.children[NAMES.index(name)].data.params["input_topic"]
    if len(topic) <= 6000:
        assert told == topic
    else:
        assert len(told) <= 6000 and "cut: 200009 characters" in told


def value(batch: Tracked, name: str, kind: str, key: str) -> Any:
    return getattr(batch.children[NAMES.index(name)].data, kind).get(key)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("plain", "a joke about plain"),
        ("says strange", "nul ␀, emoji 😀, 日本語"),
        ("empty", ""),
        ("own error", "a joke about [[raise=boom]]"),
        ("wrong key", None),
        ("server error", None),
    ],
)
def test_output_is_the_llm_nodes(batch: Tracked, name: str, output: str | None) -> None:
    assert value(batch, name, "params", "output") == output


def test_a_long_value_is_whole_in_an_artifact(batch: Tracked, machine: Machine) -> None:
    from mlflow import MlflowClient

    run_id = batch.children[NAMES.index("long")].info.run_id
    client = MlflowClient(store(machine))
    paths = [file.path for file in client.list_artifacts(run_id, "long_values")]
    assert paths == ["long_values/input_topic.txt", "long_values/output.txt"]
    assert Path(client.download_artifacts(run_id, paths[0])).read_text("utf-8") == LONG


@pytest.mark.parametrize(
    ("name", "prompt", "completion", "total"),
    [
        ("plain", PROMPT_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS + COMPLETION_TOKENS),
        ("nested usage", PROMPT_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS + COMPLETION_TOKENS),
        ("own error", PROMPT_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS + COMPLETION_TOKENS),
        ("no usage", None, None, None),
        ("empty usage", None, None, None),
        ("malformed usage", None, None, None),
        ("negative usage", None, None, None),
        ("wrong key", None, None, None),
    ],
)
def test_tokens_are_absent_where_unknown(
    batch: Tracked, name: str, prompt: int | None, completion: int | None, total: int | None
) -> None:
    told = [value(batch, name, "metrics", f"{kind}_tokens") for kind in ("prompt", "completion", "total")]
    assert told == [prompt, completion, total]


@pytest.mark.parametrize("name", NAMES)
def test_durations_are_the_nodes_and_the_lines(batch: Tracked, name: str) -> None:
    line = value(batch, name, "metrics", "line_duration")
    assert 0 < line < 60
    if name != "killed":
        assert 0 < value(batch, name, "metrics", "duration") <= line


def test_tags_tell_where_a_line_is_from(batch: Tracked) -> None:
    tags = batch.children[0].data.tags
    uid = batch.parent.data.tags["promptflow.batch_uid"]
    assert {key: value for key, value in tags.items() if not key.startswith("mlflow.user")} == {
        "framework": "Prompt Flow",
        "promptflow.kind": "line",
        "promptflow.run_id": "lines",
        "promptflow.batch_uid": uid,
        "promptflow.line_number": "0",
        "mlflow.source.name": "edge",
        "mlflow.parentRunId": batch.parent.info.run_id,
        "mlflow.runName": "Run 000000000",
        "response_model": "fake-1",
    }
    assert tags["mlflow.user"] not in ("", "unknown")


def test_params_are_the_nodes_inputs(batch: Tracked) -> None:
    assert batch.children[0].data.params == {
        "run_display_name": "All kinds of lines",
        "input_model": "gpt-4o-mini",
        "input_deployment_name": "gpt-4o-mini",
        "input_temperature": "0.0",
        "input_topic": "plain",
        "input_count": "1",
        "output": "a joke about plain",
    }


def test_the_parent_sums_the_batch_up(batch: Tracked) -> None:
    completed = [name for name, (_, status, *_) in LINES.items() if status == "FINISHED"]
    metrics = batch.parent.data.metrics
    counts = [metrics[f"lines_{kind}"] for kind in ("total", "completed", "failed")]
    assert counts == [len(LINES), len(completed), len(LINES) - len(completed)]
    told = [tokens for tokens in batch.column("metrics", "total_tokens") if tokens is not None]
    assert metrics["total_tokens"] == sum(told) == len(told) * (PROMPT_TOKENS + COMPLETION_TOKENS)
    durations = sorted(value(batch, name, "metrics", "duration") for name in completed)
    assert metrics["duration/mean"] == pytest.approx(sum(durations) / len(durations))
    assert (
        durations[0] <= metrics["duration/p50"] <= metrics["duration/p90"] <= metrics["duration/p99"] <= durations[-1]
    )


def test_the_parent_names_flow_and_data(batch: Tracked) -> None:
    assert batch.parent.info.run_name == "All kinds of lines"
    assert batch.parent.info.status == "FINISHED"
    assert batch.parent.data.tags["promptflow.run_id"] == "lines"
    params = batch.parent.data.params
    assert (params["flow"], params["data"]) == ("edge", "lines.jsonl")
    assert len(params["data_hash"]) == len(params["flow_hash"]) == 16


def test_outputs_name_the_child_run_or_nothing(batch: Tracked, machine: Machine) -> None:
    outputs = machine.outputs("lines")
    assert len(outputs) == sum(status == "FINISHED" for _, status, *_ in LINES.values())
    for output in outputs:
        assert output["child_run_id"] in ("", batch.children[output["line_number"]].info.run_id)


def test_no_worker_loads_mlflow(batch: Tracked, machine: Machine) -> None:
    told = {output["line_number"]: output["joke"] for output in machine.outputs("lines")}
    assert told[NAMES.index("is mlflow loaded")] is False


def test_no_secret_is_written_anywhere(batch: Tracked, machine: Machine) -> None:
    written = (machine.cwd / "mlflow.db").read_bytes()
    written += b"".join(path.read_bytes() for path in (machine.folder / "spool").glob("*.*"))
    assert SECRET.encode() not in written
    assert b"sk-test-0123456789abcdefghij" not in written


def test_the_spool_forgets_what_mlflow_has_and_is_private(batch: Tracked, machine: Machine) -> None:
    path = machine.folder / "spool" / "spool.db"
    assert path.stat().st_mode & 0o777 == 0o600
    uid = batch.parent.data.tags["promptflow.batch_uid"]
    until = time.monotonic() + 10
    with closing(sqlite3.connect(path)) as spool:
        while spool.execute("SELECT closed FROM batch WHERE uid = ?", (uid,)).fetchone() == (None,):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert spool.execute("SELECT count(*) FROM line WHERE batch_uid = ?", (uid,)).fetchone() == (0,)


@pytest.mark.slow
def test_a_model_that_nobody_serves(machine: Machine) -> None:
    machine.connect(f"http://127.0.0.1:{free_port()}/v1", name="dead")
    data = machine.data("refused", [{"topic": "plain"}])
    words = ["run", "create", "--flow", str(FLOWS / "edge"), "--data", str(data), "--name", "refused"]
    words += ["--column-mapping", "topic=${data.topic}", "--connections", "tell.connection=dead"]
    machine.pf(*words, PF_LINE_TIMEOUT_SEC="20")
    child = tracked(store(machine), "refused").children[0]
    assert child.info.status == "FAILED" and child.data.params["input_topic"] == "plain"
    assert child.data.tags["promptflow.error_type"] == "APIConnectionError"
