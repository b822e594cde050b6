"""What docs/metrics.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from machine import ROOT

from pf_mlflow.scoring import known_metrics
from pf_mlflow.scoring.units import units

PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")


def test_the_table_names_the_metrics() -> None:
    rows = re.findall(r"^\| (`[\w`, ]+`) \| (?:`(\w+)`)?", PAGE.partition("## Units")[0], re.MULTILINE)
    told = {name: needs for names, needs in rows for name in re.findall(r"\w+", names)}
    assert told == {metric.name: "".join(metric.needs) for metric in known_metrics()}


def test_the_table_of_units() -> None:
    rows = re.findall(r"^\| `(.+?)` \| `(.+)` \|$", PAGE.partition("## Units")[2], re.MULTILINE)
    assert len(rows) == 4
    assert [units(text) for text, _ in rows] == [found.split("` `") for _, found in rows]


def test_the_metric_of_your_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric, use = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "polite.py").write_text(metric, "utf-8")
    monkeypatch.chdir(tmp_path)
    exec(use, {})
