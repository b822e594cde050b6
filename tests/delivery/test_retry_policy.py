from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.delivery.retry_policy import Patience, backoff, keep_trying
from pf_mlflow.errors import TrackingDown, TrackingRefused

DOWN = TrackingDown("no answer")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)


@pytest.mark.parametrize(
    "tries, expected", [(1, 0.2), (2, 0.2 * 2), (3, 0.2 * 4), (6, 0.2 * 32), (7, 10.0), (1_000_000, 10.0)]
)
def test_each_wait_is_twice_the_last_up_to_ten_seconds(no_jitter: None, tries: int, expected: float) -> None:
    assert backoff(tries) == pytest.approx(expected)


@given(st.integers(1, 50), st.none() | st.floats(0, 100))
def test_waits_differ_and_are_never_shorter_than_the_server_asked_for(tries: int, asked: float | None) -> None:
    full = min(10.0, 0.2 * 2 ** (tries - 1))
    waits = [backoff(tries, TrackingDown("429", asked)) for _ in range(20)]
    assert all(max(0.5 * full, asked or 0.0) <= wait <= max(1.5 * full, asked or 0.0) for wait in waits)
    assert len(set(waits)) > 1 or (asked or 0.0) > 0.5 * full


def test_a_line_waits_for_its_own_turn(clock: Clock, no_jitter: None) -> None:
    patience = Patience(threads=8)
    for _ in range(3):
        patience.failed(1, DOWN)
    assert (patience.may_try(1, 0), patience.may_try(2, 5), patience.is_down) == (False, True, False)
    clock.now += 0.2 * 4 - 0.01
    assert not patience.may_try(1, 0)
    clock.now += 0.02
    assert patience.may_try(1, 0)
    patience.succeeded(1)
    patience.failed(1, DOWN)  # it begins anew
    clock.now += 0.2 + 0.01
    assert patience.may_try(1, 0)


def test_while_nobody_is_answered_all_wait_and_then_one_finds_out(clock: Clock, no_jitter: None) -> None:
    patience = Patience(threads=2)
    for number in range(3):
        patience.failed(number, DOWN)
    assert not patience.is_down and patience.may_try(9, 1)
    patience.failed(3, DOWN)
    assert patience.is_down and not patience.may_try(9, 0)
    clock.now += 0.2 + 0.01
    assert (patience.may_try(9, 0), patience.may_try(9, 1)) == (True, False)
    patience.succeeded(9)
    assert not patience.is_down and patience.may_try(10, 1)


def test_the_pause_grows_with_the_outage(clock: Clock, no_jitter: None) -> None:
    patience = Patience(threads=1)
    pauses = []
    for number in range(20):
        patience.failed(number, DOWN)
        if patience.is_down:
            pauses.append(round(patience._paused_until - clock.now, 3))
    assert pauses[0] == 0.2 and pauses[-1] == 10.0 and pauses == sorted(pauses)


@pytest.mark.parametrize("failures", [1, 4])
def test_a_server_that_asks_for_time_gets_it_from_all(clock: Clock, failures: int) -> None:
    patience = Patience(threads=2)
    for number in range(failures):
        patience.failed(number, TrackingDown("429", 60.0))
    patience.failed(99, DOWN)
    clock.now += 60.0 - 0.01
    assert not any(patience.may_try(number, 0) for number in (0, 9))
    clock.now += 0.02
    assert all(patience.may_try(number, 0) for number in (0, 9))


def test_a_step_is_tried_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    outcomes = iter([DOWN, TrackingDown("429", 33.0), DOWN, "done"])
    failures: list[TrackingDown] = []

    def step() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    assert keep_trying(step, lambda: False, failures.append) == "done"
    assert [str(error) for error in failures] == ["no answer", "429", "no answer"]
    assert len(slept) == 3 and slept[1] == 33.0
    assert 0.1 <= slept[0] <= 0.3 and 0.4 <= slept[2] <= 1.2


@pytest.mark.parametrize(
    "error, is_time_up, tries", [(TrackingRefused("no"), False, 1), (DOWN, True, 1), (KeyError("a bug"), False, 1)]
)
def test_a_step_that_was_refused_or_came_too_late_is_given_up(error: Exception, is_time_up: bool, tries: int) -> None:
    tried = []

    def step() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)) as told:
        keep_trying(step, lambda: is_time_up, lambda failure: None)
    assert told.value is error and len(tried) == tries
