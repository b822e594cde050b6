"""The same lines by `pf-mlflow run`, by `pf run create` and by `sync`: MLflow says the same of them, and promptflow too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from agreement import as_promptflow_has_it, make_tell, plain, run, sync, the_same, the_same_by_pf
from kinds import FLEX, KINDS
from machine import FLOWS, Machine, tracked

pytestmark = pytest.mark.slow

PRICED = [f"[[model=gpt-4o-mini-2024-07-18]][[usage={usage}]]" for usage in ("nested", "none", "good")]
TOPICS = [
    "atom",
    *PRICED,
    "[[usage=none]]",
    "[[usage=nested]]",
    "[[status=401]]",
    "[[status=400]]",
    '[[say=""]]',
    "あ" * 9000,
]
TIME_OUT = "7"
ROWS: dict[str, list[dict[str, Any]]] = {
    "kinds": [{"sure": True, **row} for row, *_ in KINDS.values()],
    "plain_flex": [{"count": 3, "not_taken": "x", **row} for row, *_ in FLEX.values() if row["kind"] != "exit"],
    "edge": [
        *({"topic": topic} for topic in TOPICS),
        *({"topic": f"[[give={kind}]]"} for kind in ("dict", "list", "none", "empty", "infinity", "numpy")),
        {"topic": "[[raise=boom]]"},
    ],
    "bare": [{"topic": topic} for topic in TOPICS],
    "several": [{"question": topic} for topic in TOPICS],
    "chatty": [{"topic": topic, "number": n, "more": {"of": topic}} for n, topic in enumerate(["a", "[[raise=no]]"])],
    "async_dag": [{"topic": "atom"}, {"topic": "hang"}],
    "flex": [{"topic": "atom", "not_taken": "x"}, {"topic": "boom", "not_taken": "x"}],
    "async_flex": [{"topic": "atom"}, {"topic": "hang"}],
    "class_flex": [{"topic": "atom"}],
    "basic.prompty": [{"topic": "atom"}, {"topic": "[[status=400]]"}],
}
WITHOUT_PLAIN = {
    "basic.prompty",  # it has no place from where it could tell of its lines
    *("async_dag", "async_flex"),  # they answer with the thread they run in
}
PUBLIC = sorted(path.parent.name for path in (FLOWS / "public").glob("*/data.jsonl"))


def rows_of(flow: str) -> list[dict[str, Any]]:
    if flow in ROWS:
        return ROWS[flow]
    return [json.loads(row) for row in (FLOWS / flow / "data.jsonl").read_text("utf-8").splitlines()]


def copied(flow: str, folder: Path) -> Path:
    """A copy of all flows, since some include what lies beside them."""
    repository = folder / "repository"
    for name in ("nodes", "tests/flows"):
        shutil.copytree(FLOWS.parent.parent / name, repository / name, symlinks=True)
    shutil.copy(FLOWS.parent.parent / "joke.jinja2", repository)
    return repository / "tests" / "flows" / flow


@pytest.mark.parametrize("flow", [*ROWS, *(f"public/{name}" for name in PUBLIC)])
def test_a_flow_is_shown_the_same_by_all_ways(machine: Machine, tmp_path: Path, flow: str) -> None:
    name = f"ways_{flow.replace('/', '_').replace('.', '_')}"
    data = machine.data(name, rows_of(flow))
    bare = copied(flow, tmp_path / "bare")
    shown = run(machine, bare, data, name, "--line-timeout", TIME_OUT)
    as_promptflow_has_it(machine, name, shown)
    if flow in ("bare", "several", "edge"):
        assert {1, 3} == {number for number, run in shown.children.items() if "cost" in run.data.metrics}
    the_same(shown, sync(machine, name))
    if flow in WITHOUT_PLAIN:
        return
    telling = copied(flow, tmp_path / "telling")
    make_tell(machine, telling)
    told = plain(machine, telling, data, f"{name}_plain", PF_LINE_TIMEOUT_SEC=TIME_OUT)
    the_same_by_pf(shown, told)


def test_limited_and_resumed_lines_are_shown_as_promptflow_has_them(machine: Machine, tmp_path: Path) -> None:
    flow = copied("bare", tmp_path)
    data = machine.data("ways_limited", rows_of("bare"))
    limited = run(machine, flow, data, "ways_limited", "--limit", "4")
    as_promptflow_has_it(machine, "ways_limited", limited)
    the_same(limited, sync(machine, "ways_limited"))
    done = machine.command("pf-mlflow", "run", "--resume-from", "ways_limited", "--name", "ways_resumed", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    resumed = tracked(f"sqlite:///{machine.cwd / 'mlflow.db'}", "ways_resumed")
    as_promptflow_has_it(machine, "ways_resumed", resumed)
    copied_lines = {number for number, run in resumed.children.items() if "promptflow.copied_from" in run.data.tags}
    assert copied_lines == {number for number, run in limited.children.items() if run.info.status == "FINISHED"}
    the_same(resumed, sync(machine, "ways_resumed"))
