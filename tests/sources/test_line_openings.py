from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from builders import batch

from pf_mlflow.records.line import LineRecord
from pf_mlflow.sources.live import line_openings
from pf_mlflow.sources.live.line_openings import LineOpenings
from pf_mlflow.spool.store import Spool

ONE = batch(uid="u1", name="b1", client_pid=0, promptflow_home=None)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    monkeypatch.setattr(line_openings, "deliver_in_background", lambda spool, uid: None)
    spool = Spool(tmp_path / "spool")
    spool.add_batch(ONE)
    return spool


def opened(spool: Spool, count: int) -> dict[int, float]:
    until = time.monotonic() + 10
    while len(found := spool.unfinished("u1")) < count and time.monotonic() < until:
        time.sleep(0.01)
    return found


@pytest.mark.parametrize(
    "inputs, expected",
    [
        ({"topic": "tea", "line_number": 3}, {"topic": "tea"}),
        ('{"topic": "tea", "line_number": 3}', {"topic": "tea"}),
        ({"topic": "tea", "api_key": "abcdefgh12345678"}, {"topic": "tea", "api_key": "**scrubbed**"}),
        ("", None),
        ("[1]", None),
    ],
)
def test_a_line_is_opened_with_what_is_known_of_it(
    spool: Spool, inputs: Mapping[str, Any] | str, expected: dict[str, Any] | None
) -> None:
    LineOpenings().add(spool, ONE, 3, 100.5, inputs)
    assert opened(spool, 1) == {3: 100.5}
    draft = spool.draft("u1", 3)
    assert (LineRecord.from_json(draft).inputs if draft else None) == expected


def test_a_line_is_opened_once_and_not_when_it_is_over(spool: Spool) -> None:
    openings = LineOpenings()
    openings.add(spool, ONE, 1, 100.0, {"topic": "tea"})
    openings.cancel(ONE, 1)
    openings.add(spool, ONE, 2, 100.0, {"topic": "tea"})
    openings.add(spool, ONE, 2, 200.0, "{}")
    assert opened(spool, 1) == {2: 100.0}
    time.sleep(0.1)
    assert opened(spool, 1) == {2: 100.0} and spool.draft("u1", 2)


def test_of_many_lines_that_begin_at_once_each_is_opened(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    started_at, count = line_openings.started_at, 32

    def slowly(process: Any) -> float:
        time.sleep(0.01)
        return started_at(process)

    monkeypatch.setattr(line_openings, "started_at", slowly)
    before = [thread.name for thread in threading.enumerate()].count("pf-mlflow-opening")
    openings, gate = LineOpenings(), threading.Barrier(count)

    def begin(number: int) -> None:
        gate.wait()
        openings.add(spool, ONE, number, 100.0, {"topic": "tea"})

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(begin, range(count)))
    assert opened(spool, count) == dict.fromkeys(range(count), 100.0)
    assert [thread.name for thread in threading.enumerate()].count("pf-mlflow-opening") == before + 1
