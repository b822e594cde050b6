"""Scores summed up: the same numbers as numpy's, over the lines that have them."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.records.score import Score
from pf_mlflow.records.statistics import mean, percentile, variance
from pf_mlflow.scoring.sums import JUDGED, ScoreSums

numbers = st.floats(-1e6, 1e6)


def test_each_metric_over_the_lines_that_have_it() -> None:
    sums = ScoreSums()
    sums.add([Score("exact_match", 1.0), Score("bleu", 0.25), Score("tone", "kind")])
    sums.add([Score("exact_match", 0.0), Score("bleu", error="no")])
    sums.add([Score("bleu", error="no")])
    sums.add([Score("tone", "rude")])
    told = sums.metrics()
    assert sums.lines == 1 + 1 + 1
    assert told["exact_match/v1/mean"] == told["exact_match/v1"] == (1 + 0) / 2
    assert told["exact_match/v1/variance"] == ((1 - 0.5) ** 2 + (0 - 0.5) ** 2) / 2
    assert told["exact_match/v1/p90"] == pytest.approx(0 + 0.9 * (1 - 0)) and told["exact_match/v1/count"] == 2
    assert told["bleu/v1/mean"] == 0.25 and told["bleu/v1/variance"] == 0 and told["bleu/v1/count"] == 1
    assert told["bleu/v1/error_count"] == 2 and "bleu/v1" not in told
    assert {key: value for key, value in told.items() if key.startswith("tone")} == {"tone/v1/count": 1 + 1}


@given(st.lists(numbers, min_size=1))
def test_they_are_numpys(values: list[float]) -> None:
    assert mean(values) == pytest.approx(numpy.mean(values), abs=1e-6)
    assert variance(values) == pytest.approx(numpy.var(values), rel=1e-6, abs=1e-3)
    assert percentile(sorted(values), 90) == pytest.approx(numpy.percentile(values, 90), abs=1e-6)


LINES = [
    [Score("f1", 0.0), Score("exact_match", 0.0), Score("polite", True), Score("tone", "kind")],
    [Score("f1", 1.0), Score("exact_match", 1.0), Score("polite", False), Score("tone", "rude")],
    [Score("f1", 0.5), Score("exact_match", 0.0), Score("polite", True)],
    [Score("f1", error="ValueError: no"), Score("judge", error="down")],
    [],
]


def test_a_batch_in_numbers() -> None:
    assert ScoreSums.of(LINES).metrics() == pytest.approx(
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
            "tone/v1/count": 2,
            "judge/v1/error_count": 1,
        }
    )


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([], {}),
        ([[], []], {}),
        ([[Score("tone", "kind")]], {"tone/v1/count": 1.0}),  # a text has no mean
        (
            [[Score("x", "n/a")], [Score("x", 2)]],
            {"x/v1/mean": 2.0, "x/v1/variance": 0.0, "x/v1/p90": 2.0, "x/v1/count": 2.0},
        ),
        ([[Score("nothing")]], {}),
        ([[Score("x", math.nan), Score("y", math.inf)]], {}),  # from elsewhere: no metric of ours gives them
        ([[Score("x", 2)]], {"x/v1/mean": 2.0, "x/v1/variance": 0.0, "x/v1/p90": 2.0, "x/v1/count": 1.0}),
        ([[Score("x", 1e308)]] * 2, {"x/v1/p90": 1e308, "x/v1/count": 2.0}),  # their sum is no float
        ([[Score("x", error="e")]] * 2, {"x/v1/error_count": 2.0}),
    ],
)
def test_what_has_no_sum(rows: list[list[Score]], expected: dict[str, float]) -> None:
    assert ScoreSums.of(rows).metrics() == expected


def test_metrics_can_be_asked_at_any_time() -> None:
    sums = ScoreSums()
    assert sums.metrics() == {}
    sums.add([Score("x", 1.0)])
    assert sums.metrics()["x/v1/mean"] == 1.0
    sums.add([Score("x", 2.0)])
    assert sums.metrics()["x/v1/mean"] == (1.0 + 2.0) / 2


MEMORY = """
import tracemalloc
from pf_mlflow.records.score import Score
from pf_mlflow.scoring.sums import JUDGED, ScoreSums
sums = ScoreSums()
tracemalloc.start()
for number in range(100_000):
    sums.add([Score("x", float(number))])
print(tracemalloc.get_traced_memory()[1])
"""


def test_a_line_costs_a_number() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000 * 8 * 4  # arrays grow by a fraction, and are copied as they do


def test_yes_and_no_give_the_share_of_yes() -> None:
    rows = [[Score("safe", word, model="m")] for word in ("yes", "no", "yes", "yes")]
    told = ScoreSums.of(rows).metrics()
    assert {key: share for key, share in told.items() if "percentage" in key} == {f"{JUDGED}safe/percentage": 3 / 4}


def test_words_that_are_one_key_have_a_share_each() -> None:
    rows = [[Score("lang", word, model="m")] for word in ("c", "c++", "c++", "c#")]
    told = ScoreSums.of(rows).metrics()
    shares = {key: share for key, share in told.items() if "percentage/" in key}
    assert sorted(shares.values()) == [1 / 4, 1 / 4, 2 / 4] and shares[f"{JUDGED}lang/percentage/c"] == 1 / 4
