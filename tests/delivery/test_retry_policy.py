from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.delivery.retry_policy import CircuitBreaker, Deadline, backoff
from pf_mlflow.errors import TrackingDown, TrackingRefused

DOWN = TrackingDown("no answer")
NEVER = Deadline(1.0, lambda: None)


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


def test_a_line_that_fails_alone_waits_and_the_others_do_not(clock: Clock, no_jitter: None) -> None:
    breaker = CircuitBreaker(NEVER)
    waits = [breaker.failed(DOWN, at_once=8) for _ in range(3)]
    assert waits == 3 * [0.2] and breaker.allows(5) and not breaker.is_open


def test_while_nobody_is_answered_all_wait_and_then_one_finds_out(clock: Clock, no_jitter: None) -> None:
    recovered: list[int] = []
    breaker = CircuitBreaker(NEVER, on_recovery=lambda: recovered.append(1))
    for _ in range(3):
        breaker.failed(DOWN, at_once=2)
    assert not breaker.is_open and breaker.allows(1)
    breaker.failed(DOWN, at_once=2)
    assert breaker.is_open and not breaker.allows(0)
    clock.now += 0.4 + 0.01
    assert (breaker.allows(0), breaker.allows(1)) == (True, False)
    breaker.succeeded()
    assert not breaker.is_open and breaker.allows(1) and recovered == [1]
    breaker.succeeded()
    assert recovered == [1]


def test_each_probe_that_fails_doubles_the_pause(clock: Clock, no_jitter: None) -> None:
    breaker = CircuitBreaker(NEVER)
    pauses = []
    for _ in range(20):
        pause = breaker.failed(DOWN, at_once=4)
        if breaker.is_open:
            pauses.append(round(pause, 3))
            clock.now += pause - 0.01
            assert not breaker.allows(0)
            clock.now += 0.02
            assert breaker.allows(0)
    assert pauses[:3] == [0.4, 0.8, 1.6] and pauses[-1] == 10.0 and pauses == sorted(pauses)


@pytest.mark.parametrize("failures", [1, 4])
def test_a_server_that_asks_for_time_gets_it_from_all(clock: Clock, failures: int) -> None:
    breaker = CircuitBreaker(NEVER)
    for _ in range(failures):
        breaker.failed(TrackingDown("429", 60.0), at_once=2)
    breaker.failed(DOWN, at_once=2)
    clock.now += 60.0 - 0.01
    assert not breaker.allows(0)
    clock.now += 0.02
    assert breaker.allows(0)


@pytest.mark.parametrize(
    "since, seconds, passed", [(None, 0.0, False), (990.0, 10.5, False), (990.0, 9.5, True), (1000.0, -1.0, True)]
)
def test_a_deadline(clock: Clock, since: float | None, seconds: float, passed: bool) -> None:
    assert Deadline(seconds, lambda: since).has_passed() == passed
    assert Deadline(seconds).has_passed(since) == passed


def test_patience_begins_with_the_first_failure_after_a_success(clock: Clock) -> None:
    breaker = CircuitBreaker(Deadline(30.0))
    for _ in range(3):
        breaker.failed(DOWN)
        clock.now += 15.0
    breaker.succeeded()
    breaker.failed(DOWN)
    clock.now += 31.0
    with pytest.raises(TrackingDown):
        breaker.failed(DOWN)


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

    assert CircuitBreaker(NEVER, failures.append).call(step) == "done"
    assert [str(error) for error in failures] == ["no answer", "429", "no answer"]
    assert len(slept) == 3 and slept[1] == 33.0
    assert 0.1 <= slept[0] <= 0.3 and 0.4 <= slept[2] <= 1.2


@pytest.mark.parametrize(
    "error, deadline, tries",
    [(TrackingRefused("no"), NEVER, 1), (DOWN, Deadline(-1.0), 1), (KeyError("a bug"), NEVER, 1)],
)
def test_a_step_that_was_refused_or_came_too_late_is_given_up(error: Exception, deadline: Deadline, tries: int) -> None:
    tried = []

    def step() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)) as told:
        CircuitBreaker(deadline).call(step)
    assert told.value is error and len(tried) == tries
