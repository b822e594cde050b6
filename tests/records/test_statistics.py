from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.records.statistics import mean, percentile, variance

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(numbers, st.sampled_from([0, 10, 50, 90, 99, 100]))
def test_percentiles_are_numpys(values: list[float], percent: int) -> None:
    expected = numpy.percentile(values, percent)
    assert percentile(sorted(values), percent) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(numbers)
def test_mean_and_variance_are_numpys(values: list[float]) -> None:
    assert mean(values) == pytest.approx(numpy.mean(values), rel=1e-9, abs=1e-6)
    assert variance(values) == pytest.approx(numpy.var(values), rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 99, 5.0),
        ([1.0, 3.0], 50, 2.0),
        ([1.0, 2.0, 4.0], 90, 2.0 + 0.8 * 2.0),
        ([1.0, 2.0, 3.0, 10.0], 100, 10.0),
    ],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_a_sum_that_is_no_float_is_infinite() -> None:
    assert mean([1.7e308, 1.7e308]) == math.inf
