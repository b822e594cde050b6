"""Scores summed up: the same numbers as numpy's, over the lines that have them."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.score_sums import ScoreSums
from pf_mlflow.spread import mean, percentile, variance

numbers = st.floats(-1e6, 1e6)


def test_each_metric_over_the_lines_that_have_it() -> None:
    sums = ScoreSums()
    sums.add({"exact_match": 1.0, "bleu": 0.25}, others=1)
    sums.add({"exact_match": 0.0}, errors=["bleu"])
    sums.add({}, errors=["bleu"])
    sums.add({}, others=1)
    told = sums.metrics()
    assert sums.lines == 1 + 1 + 1
    assert told["exact_match/v1/mean"] == told["exact_match/v1"] == (1 + 0) / 2
    assert told["exact_match/v1/variance"] == ((1 - 0.5) ** 2 + (0 - 0.5) ** 2) / 2
    assert told["exact_match/v1/p90"] == pytest.approx(0 + 0.9 * (1 - 0)) and told["exact_match/v1/count"] == 2
    assert told["bleu/v1/mean"] == 0.25 and told["bleu/v1/variance"] == 0 and told["bleu/v1/count"] == 1
    assert told["bleu/v1/error_count"] == 2 and "bleu/v1" not in told


def test_nothing_is_summed_up_to_nothing() -> None:
    assert ScoreSums().metrics() == {}


@given(st.lists(numbers, min_size=1))
def test_they_are_numpys(values: list[float]) -> None:
    assert mean(values) == pytest.approx(numpy.mean(values), abs=1e-6)
    assert variance(values) == pytest.approx(numpy.var(values), rel=1e-6, abs=1e-3)
    assert percentile(sorted(values), 90) == pytest.approx(numpy.percentile(values, 90), abs=1e-6)
