"""A finished batch of many lines, made of a small one that really ran."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from machine import ROOT, Machine

__all__ = ["TEMPLATE", "big_batch", "template_batch"]

TEMPLATE = "template"
TEMPLATE_LINES = 50
TOPIC = "x" * 500
"""It stands in what promptflow keeps of a line a dozen times: 10 KB in all."""


def template_batch(machine: Machine) -> None:
    """Run a batch with tracking off, as the model for bigger ones."""
    data = machine.data(TEMPLATE, [{"topic": f"{number} {TOPIC}"} for number in range(TEMPLATE_LINES)])
    words = ["--flow", str(ROOT), "--data", str(data), "--column-mapping", "topic=${data.topic}", "--name", TEMPLATE]
    machine.pf("run", "create", *words, PF_MLFLOW_ENABLED="false")


def big_batch(machine: Machine, name: str, lines: int) -> Path:
    """Make a batch as promptflow would have left it: its record, its folder with one file per line, its data.

    The template's lines follow one another under new numbers. `node_artifacts` and `flow_logs`, which nothing here
    reads, are left out.
    """
    home = machine.folder / "promptflow"
    template, folder = home / ".runs" / TEMPLATE, home / ".runs" / name
    ignored = shutil.ignore_patterns("*_artifacts", "flow_logs", "*.jsonl")
    shutil.copytree(template, folder, ignore=ignored)
    for path in ("inputs.jsonl", "outputs.jsonl", "flow_outputs/output.jsonl"):
        _repeat(template / path, folder / path, lines)
    data = machine.data(name, [])
    _repeat(machine.cwd / f"{TEMPLATE}.jsonl", data, lines)
    _repeat_artifacts(template / "flow_artifacts", folder / "flow_artifacts", name, lines)
    _add_record(home / "pf.sqlite", name, folder, data, lines)
    return folder


def _numbered(texts: list[str], lines: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for number in range(lines):
        yield number, json.loads(texts[number % len(texts)])


def _repeat(source: Path, target: Path, lines: int) -> None:
    with target.open("w", encoding="utf-8") as out:
        for number, line in _numbered(source.read_text("utf-8").splitlines(), lines):
            if "line_number" in line:
                line["line_number"] = number
            out.write(json.dumps(line) + "\n")


def _repeat_artifacts(source: Path, target: Path, name: str, lines: int) -> None:
    target.mkdir()
    texts = [text for path in sorted(source.iterdir()) for text in path.read_text("utf-8").splitlines()]
    for number, line in _numbered(texts, lines):
        run = line["run_info"]
        inputs = run["inputs"] | ({"line_number": number} if "line_number" in run["inputs"] else {})
        renamed = {"run_id": f"{name}_{number}", "parent_run_id": name, "root_run_id": name}
        line |= {"line_number": number, "run_info": run | renamed | {"index": number, "inputs": inputs}}
        (target / f"{number:09}_{number:09}.jsonl").write_text(json.dumps(line), "utf-8")


def _add_record(database: Path, name: str, folder: Path, data: Path, lines: int) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM run_info WHERE name = ?", (TEMPLATE,)).fetchone())
        properties = json.loads(row["properties"])
        counted = {key: lines for key in properties["system_metrics"] if key.endswith(".completed")}
        properties |= {"output_path": str(folder), "system_metrics": properties["system_metrics"] | counted}
        row |= {"name": name, "display_name": name, "data": str(data), "properties": json.dumps(properties)}
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT INTO run_info ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
