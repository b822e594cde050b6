"""Rows that are read without pandas are those that promptflow reads with it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from promptflow._utils.load_data import load_data

from pf_mlflow.running.engine.plain_rows import plain_rows

ORDINARY = {
    "texts": '{"topic": "tea", "q": ""}\n{"topic": "咖啡 \\ud83d\\ude00", "q": "\\u0000"}',
    "another order": '{"topic": "tea", "q": "x"}\n{"q": "y", "topic": "milk"}',
    "numbers": f'{{"question": "x", "n": 1, "big": {2**63 - 1}}}\n{{"question": "y", "n": -0, "big": -1}}',
    "truth": '{"question": "x", "ok": true}\n{"question": "y", "ok": false}',
    "nothing": '{"question": "x", "hint": null}\n{"question": "y", "hint": null}',
    "texts and nothing": '{"question": "x", "hint": null}\n{"question": "y", "hint": "h"}',
    "histories": '{"question": "x", "chat_history": []}\n{"question": "y", "chat_history": [{"a": [1, null]}]}',
    "objects": '{"question": "x", "data": {"a": {"b": "1"}}}',
    "odd names": '{"question": "x", "": "y", "1": "z", "now": "n", "a.b": "c"}',
    "lines": '\r\n{"question": "x\u2028y\u0085z"}\r\n\n  \n{"question": "1"}',
    "twice": '{"question": "x", "question": "y"}',
    "looks like more": '{"question": "2024-01-01", "b": "1.50", "c": "null", "d": "NaN", "e": "true"}',
}
CHANGED = {
    "a date by its name": '{"question": "x", "date": "2024-01-01"}',
    "a time by its name": '{"question": "x", "Asked_At": "2020-01-01"}',
    "names that are times": '{"now": "x"}',
    "names that are numbers": '{"1": "x", "2": "y"}',
    "a name that is nothing": '{"nan": "x"}',
    "a number and nothing": '{"question": "x", "n": 1}\n{"question": "y", "n": null}',
    "a float": '{"question": "x", "n": 0.1}',
    "a float inside": '{"question": "x", "n": [0.30000000000000004]}',
    "a larger number": f'{{"question": "x", "n": {2**63}}}',
    "another column": '{"question": "x"}\n{"question": "y", "more": "z"}',
    "two kinds": '{"question": "x"}\n{"question": 1}',
    "half a character": '{"question": "\\ud800"}',
    "no row": "\n",
    "no object": "[1]",
    "no JSON": '{"question": "x"',
    "a byte order mark": '\ufeff{"question": "x"}',
    "deep": '{"question": ' + "[" * 30 + "]" * 30 + "}",
}


def written(folder: Path, text: str, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def as_promptflow_reads(path: Path) -> str:
    return repr(load_data(path))


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_rows_are_read_as_promptflow_reads_them(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    rows = plain_rows(path)
    assert rows and repr(rows) == as_promptflow_reads(path)


@pytest.mark.parametrize("text", CHANGED.values(), ids=CHANGED)
def test_what_could_become_something_else_is_left_to_promptflow(tmp_path: Path, text: str) -> None:
    assert plain_rows(written(tmp_path, text)) is None


@pytest.mark.parametrize("name", ["rows.json", "rows.csv", "rows.JSONL", "rows"])
def test_other_files_are_left_to_promptflow(tmp_path: Path, name: str) -> None:
    assert plain_rows(written(tmp_path, '{"question": "x"}', name)) is None
    assert plain_rows(tmp_path) is None and plain_rows(tmp_path / "gone.jsonl") is None


NAMES = [
    "question",
    "topic",
    "text",
    "now",
    "may",
    "1",
    "",
    "id",
    "at",
    "nan",
    "march",
    "timestamps",
    "update",
    "inf",
    "二",
]
VALUES = ["x", "", "1", "2024-01-01", None, True, False, 0, -1, 2**62, [], {}, [1, "a"], {"a": None}, {"b": [{}]}]


def test_whatever_is_read_plainly_is_what_promptflow_reads(tmp_path: Path) -> None:
    chance, plain = random.Random(0), 0
    for number in range(400):
        names = chance.sample(NAMES, chance.randint(1, 3))
        kinds: dict[str, list[Any]] = {name: chance.sample(VALUES, chance.randint(1, 2)) for name in names}
        rows = [{name: chance.choice(kinds[name]) for name in names} for _ in range(chance.randint(1, 4))]
        path = written(tmp_path, "\n".join(map(json.dumps, rows)), f"{number}.jsonl")
        if (found := plain_rows(path)) is not None:
            plain += 1
            assert repr(found) == as_promptflow_reads(path), rows
    assert plain > 50
