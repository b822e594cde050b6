"""How a batch stands: latencies as MLflow shows them, and what delivery still takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from machine import FLOWS, Machine

from pf_mlflow.running.progress import LineCounter


def test_latencies_are_those_that_mlflow_shows_of_completed_lines() -> None:
    counter = LineCounter(4)
    for number, (completed, seconds, shown) in enumerate(
        [(True, 9.0, 0.1), (True, 9.0, 0.3), (False, 0.01, 0.01), (True, 0.5, None)]
    ):
        counter.took(number, shown)
        counter.add(number, completed, seconds, 10)
    counts = counter.counts(0, False)
    assert (counts.done, counts.failed, counts.tokens) == (4, 1, 40)
    assert counts.p50 == pytest.approx(sorted([0.1, 0.3, 0.5])[1])


def test_what_delivery_still_takes_is_told_by_its_pace_since_the_lines_were_over() -> None:
    counter = LineCounter(100)
    for number in range(100):
        assert counter.counts(0, False).delivery_left is None
        counter.add(number, True, 0.1, None)
    assert counter.counts(40, False).delivery_left is None  # nobody knows yet
    time.sleep(0.05)
    counts = counter.counts(60, False)
    assert counts.delivered == 60 and counts.delivery_left is not None
    pace = (60 - 40) / 0.05
    assert 0 < counts.delivery_left and counts.delivery_left >= (100 - 60) / pace
    assert counter.counts(None, False).delivery_left is None


WATCHED = """
import json
from pathlib import Path
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.request import RunRequest
from pf_mlflow.running.run import run_batch

class Watched(Observer):
    def running(self, counts):
        self.counts = counts

watched = Watched()
result = run_batch(RunRequest(Path({flow!r}), Path({data!r}), {{"topic": "${{data.topic}}"}}, name="watched"), watched)
counts = watched.counts()
print(json.dumps([counts.p50, counts.p90, counts.delivered, dict(result.summary.durations)]))
"""


def test_the_progress_line_and_the_table_tell_one_latency(machine: Machine, tmp_path: Path) -> None:
    data = machine.data("watched", [{"topic": f"tea {number}"} for number in range(7)])
    (tmp_path / "script.py").write_text(WATCHED.format(flow=str(FLOWS / "bare"), data=str(data)))
    done = machine.command("python", str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr
    p50, p90, delivered, durations = json.loads(done.stdout.splitlines()[-1])
    assert (p50, p90, delivered) == (pytest.approx(durations["p50"]), pytest.approx(durations["p90"]), 7)
