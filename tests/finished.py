"""Batches as promptflow leaves them behind: a row in its database, and a folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

CREATED = "2026-11-21T05:58:15.245744+00:00"
TIMES = {"start_time": "2026-11-21T05:58:15.500000+00:00", "end_time": "2026-11-21T05:58:25.500000+00:00"}
_COLUMNS = (
    "name TEXT NOT NULL PRIMARY KEY, type TEXT, created_on TEXT NOT NULL, status TEXT NOT NULL, display_name TEXT, "
    "description TEXT, tags TEXT, properties TEXT, archived BOOLEAN, start_time TEXT, end_time TEXT, data TEXT, "
    "run_source TEXT, portal_url TEXT"
)
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
INPUTS = {"prompt": "About {{topic}}", "model": "m", "topic": "atom", "_inputs_to_escape": ["topic"]}
FLOW = "nodes: [{name: joke, type: llm}]"
EVALUATION_FLOW = "nodes: [{name: score, type: python}, {name: mean, type: python, aggregation: true}]"


def home_with(home: Path, properties: Mapping[str, Any] | str | None, **values: Any) -> Path:
    """Make a promptflow home whose database knows the batch `b1`, or another name among the values."""
    home.mkdir(parents=True, exist_ok=True)
    row = {"name": "b1", "type": "batch", "created_on": CREATED, "status": "Completed", "display_name": "b1", **values}
    row["properties"] = properties if properties is None else json.dumps(properties)
    with closing(sqlite3.connect(home / "pf.sqlite")) as db, db:
        db.execute(f"CREATE TABLE IF NOT EXISTS run_info ({_COLUMNS})")
        db.execute("CREATE INDEX IF NOT EXISTS idx_run_info_created_on ON run_info (created_on)")
        db.execute(
            f"INSERT OR REPLACE INTO run_info ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
        )
    return home


def finished_batch(
    home: Path,
    infos: Iterable[Mapping[str, Any]],
    name: str = "b1",
    dag: str = FLOW,
    run: str | None = None,
    **values: Any,
) -> Path:
    """Leave a batch with these lines behind, and return its folder."""
    folder = home / ".runs" / name
    (folder / "snapshot").mkdir(parents=True)
    (folder / "snapshot" / "flow.dag.yaml").write_text(dag)
    (folder / "logs.txt").touch()
    for info in infos:
        keep(folder, info["index"], info)
    flow = home.parent / "joke-flow"
    flow.mkdir(exist_ok=True)
    properties = {"output_path": str(folder), "flow_path": str(flow), **({"run": run} if run else {})}
    home_with(home, properties, name=name, **{"display_name": name, **TIMES, **values})
    return folder


def call(name: str, at: float, **changes: Any) -> dict[str, Any]:
    values = {"name": name, "type": "Function", "inputs": {}, "output": "ok", "start_time": at, "end_time": at + 1}
    return {**values, "error": None, "children": [], "node_name": None, **changes}


def llm_call(**changes: Any) -> dict[str, Any]:
    return call("openai_chat", 100.5, **{"type": "LLM", "output": {"model": "fake-1", "usage": USAGE}, **changes})


def joke_call(**changes: Any) -> dict[str, Any]:
    values = {"node_name": "joke", "inputs": INPUTS, "output": "Ha!", "children": [llm_call()]}
    return call("OpenAI.chat", 100.25, **{**values, **changes})


def run_info(number: int, *nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = {
        "run_id": f"b1_{number}",
        "status": "Completed",
        "error": None,
        "inputs": {"topic": "atom", "line_number": number},
        "output": {"joke": "Ha!"},
        "start_time": "2026-11-21T05:58:18.191448Z",
        "end_time": "2026-11-21T05:58:20.691448Z",
        "index": number,
        "api_calls": [call("flow", 100.0, type="Flow", node_name="flow", children=list(nodes))],
    }
    return {**values, **changes}


def keep(folder: Path, number: int, info: Mapping[str, Any]) -> None:
    """Write a line the way promptflow does: `json.dump(…, ensure_ascii=False)` into a file of its own."""
    path = folder / "flow_artifacts" / f"{number:09}_{number:09}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"line_number": number, "run_info": info}, ensure_ascii=False), encoding="utf-8")
