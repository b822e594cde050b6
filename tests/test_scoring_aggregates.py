from __future__ import annotations

import math
import subprocess
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.scoring import Score, ScoreTally, aggregate

LINES = [
    [Score("f1", 0.0), Score("exact_match", 0.0), Score("polite", True), Score("tone", "kind")],
    [Score("f1", 1.0), Score("exact_match", 1.0), Score("polite", False), Score("tone", "rude")],
    [Score("f1", 0.5), Score("exact_match", 0.0), Score("polite", True)],
    [Score("f1", error="ValueError: no"), Score("judge", error="down")],
    [],
]


def test_a_batch_in_numbers() -> None:
    assert aggregate(LINES) == pytest.approx(
        {
            "f1/v1/mean": (0.0 + 1.0 + 0.5) / 3,
            "f1/v1/variance": ((0.0 - 0.5) ** 2 + (1.0 - 0.5) ** 2 + (0.5 - 0.5) ** 2) / 3,
            "f1/v1/p90": 0.5 + 0.8 * (1.0 - 0.5),  # place 1.8 of 0, 1, 2
            "f1/v1/count": 3,
            "f1/v1/error_count": 1,
            "exact_match/v1": 1 / 3,
            "exact_match/v1/mean": 1 / 3,
            "exact_match/v1/variance": 1 / 3 * (1 - 1 / 3),
            "exact_match/v1/p90": 0.0 + 0.8 * (1.0 - 0.0),
            "exact_match/v1/count": 3,
            "polite/v1/mean": 2 / 3,
            "polite/v1/variance": 2 / 3 * (1 - 2 / 3),
            "polite/v1/p90": 1.0,
            "polite/v1/count": 3,
            "judge/v1/error_count": 1,
        }
    )


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([], {}),
        ([[], []], {}),
        ([[Score("tone", "kind")]], {}),  # a text has no mean
        ([[Score("nothing")]], {}),
        ([[Score("x", math.nan), Score("y", math.inf)]], {}),  # from elsewhere: no metric of ours gives them
        ([[Score("x", 2)]], {"x/v1/mean": 2.0, "x/v1/variance": 0.0, "x/v1/p90": 2.0, "x/v1/count": 1.0}),
        ([[Score("x", 1e308)]] * 2, {"x/v1/p90": 1e308, "x/v1/count": 2.0}),  # their sum is no float
        ([[Score("x", error="e")]] * 2, {"x/v1/error_count": 2.0}),
    ],
)
def test_aggregate(rows: list[list[Score]], expected: dict[str, float]) -> None:
    assert aggregate(rows) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=100))
def test_the_spread_is_numpy_s(values: list[float]) -> None:
    told = aggregate([Score("x", value)] for value in values)
    assert told["x/v1/mean"] == pytest.approx(numpy.mean(values), rel=1e-9, abs=1e-6)
    assert told["x/v1/variance"] == pytest.approx(numpy.var(values), rel=1e-9, abs=1e-6)
    assert told["x/v1/p90"] == pytest.approx(numpy.percentile(values, 90), rel=1e-9, abs=1e-6)


def test_metrics_can_be_asked_at_any_time() -> None:
    tally = ScoreTally()
    assert tally.metrics() == {}
    tally.add([Score("x", 1.0)])
    assert tally.metrics()["x/v1/mean"] == 1.0
    tally.add(score for score in [Score("x", 2.0)])
    assert tally.metrics()["x/v1/mean"] == (1.0 + 2.0) / 2


MEMORY = """
import tracemalloc
from pf_mlflow.scoring import Score, ScoreTally
tally = ScoreTally()
tracemalloc.start()
for number in range(100_000):
    tally.add([Score("x", float(number), rationale="why " * 100)])
print(tracemalloc.get_traced_memory()[1])
"""


def test_a_line_costs_a_number() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000 * 8 * 4  # arrays grow by a fraction, and are copied as they do


@pytest.mark.parametrize(
    "score, told",
    [
        (Score("f1", 0.5), {"name": "f1", "value": 0.5}),
        (Score("f1", 0.0), {"name": "f1", "value": 0.0}),
        (Score("polite", False), {"name": "polite", "value": False}),
        (Score("tone", ""), {"name": "tone", "value": ""}),
        (Score("f1", error="needs ground_truth"), {"name": "f1", "error": "needs ground_truth"}),
        (
            Score("judge", 4.0, "clear", None, "gpt-4o", 1.5, 100, 20),
            {
                "name": "judge",
                "value": 4.0,
                "rationale": "clear",
                "model": "gpt-4o",
                "seconds": 1.5,
                "prompt_tokens": 100,
                "completion_tokens": 20,
            },
        ),
    ],
)
def test_a_score_as_a_dict_and_back(score: Score, told: dict[str, object]) -> None:
    assert score.as_dict() == told
    assert Score.from_dict(told | {"of_a_newer_version": 1}) == score
