"""How numbers are spread: mean, variance, percentiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["mean", "percentile", "variance"]


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value; infinity if their sum is no float."""
    return _sum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Return the variance of at least one value as of a whole population (numpy's and MLflow's default, `ddof=0`)."""
    middle = mean(values)
    return _sum((value - middle) * (value - middle) for value in values) / len(values)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of ascending values, linear between neighbours (numpy's default, Hyndman and Fan type 7)."""
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _sum(values: Iterable[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf
