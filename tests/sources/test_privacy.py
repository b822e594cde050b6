"""`PF_MLFLOW_ENABLED=false` and `PF_MLFLOW_CONTENT=none`, and what never leaves a line's process."""

from __future__ import annotations

from pathlib import Path

from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS
from machine import FLOWS, ROOT, Machine, tracked

SECRET_TOPIC = "the merger with Initech"


def written(machine: Machine, *folders: Path) -> bytes:
    files = [path for folder in [machine.folder / "spool", *folders] for path in folder.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def test_disabled_leaves_no_trace(machine: Machine, tmp_path: Path) -> None:
    data = machine.data("off", [{"topic": SECRET_TOPIC}])
    words = ["run", "create", "--flow", str(ROOT), "--data", str(data), "--column-mapping", "topic=${data.topic}"]
    done = machine.pf(*words, "--name", "off", cwd=tmp_path, PF_MLFLOW_ENABLED="false")
    assert "pf-mlflow" not in done.stderr and "pf-mlflow" not in machine.logs("off")
    assert not list(tmp_path.iterdir())
    assert SECRET_TOPIC.encode() not in written(machine)


def test_content_none_keeps_all_text_out(machine: Machine, tmp_path: Path) -> None:
    topics = [SECRET_TOPIC, f"{SECRET_TOPIC} [[status=400]]", f"{SECRET_TOPIC} [[raise={SECRET_TOPIC}]]"]
    topics.append(f"{SECRET_TOPIC} [[kill=yes]]")
    data = machine.data("sizes", [{"topic": topic} for topic in topics])
    flow, mapping = str(FLOWS / "edge"), "topic=${data.topic}"
    words = ["run", "create", "--flow", flow, "--data", str(data), "--column-mapping", mapping, "--name", "sizes"]
    machine.pf(*words, cwd=tmp_path, PF_MLFLOW_CONTENT="none")
    batch = tracked(f"sqlite:///{tmp_path / 'mlflow.db'}", "sizes")
    assert batch.column("params", "input_topic") == [f"<{len(topic)} characters>" for topic in topics]
    assert batch.children[0].data.params["output"] == f"<{len('a joke about ' + SECRET_TOPIC)} characters>"
    assert batch.children[0].data.metrics["total_tokens"] == PROMPT_TOKENS + COMPLETION_TOKENS
    assert batch.column("tags", "promptflow.error") == [None, "BadRequestError", "ValueError", "ProcessCrashError"]
    assert [batch.children[n].info.status for n in range(4)] == ["FINISHED", "FAILED", "FAILED", "FAILED"]
    assert b"merger" not in written(machine, tmp_path)
