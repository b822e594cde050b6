"""Lines are handed out once, and each has one result whatever becomes of its worker."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from pf_mlflow.running.engine.lines import Line, Lines, TooLate
from pf_mlflow.running.observer import StopRequest


def lines(count: int = 5) -> Any:
    return Lines([{"line_number": number, "topic": f"topic {number}"} for number in range(count)])


def failed(line: Line, error: Exception) -> Any:
    return f"line {line.number}: {error}"


def finish(given: Any, line: Any, result: Any) -> None:
    with given.one_result(line, failed):
        line.result = result


def give_up(given: Any, line: Any) -> None:
    with given.one_result(line, failed):
        raise TimeoutError("out of time")


def test_results_stand_in_the_order_of_the_lines() -> None:
    given = lines()
    taken = [given.take() for _ in range(5)]
    assert given.take() is None and [line.number for line in taken] == list(range(5))
    for line in reversed(taken):
        assert not given.are_over
        finish(given, line, f"result {line.number}")
    assert given.are_over and given.results() == [f"result {number}" for number in range(5)]


def test_a_line_that_was_given_up_keeps_the_result_it_got_then() -> None:
    given = lines(2)
    late, other = given.take(), given.take()
    time.sleep(0.01)
    assert {line.number for line in given.running_for(0.005)} == {0, 1} and not given.running_for(5)
    give_up(given, late)
    assert given.inputs(0) is None and given.inputs(1) == {"line_number": 1, "topic": "topic 1"}
    with pytest.raises(TooLate):
        finish(given, late, "too late")
    finish(given, other, "fine")
    assert given.results() == ["line 0: out of time", "fine"] and given.are_over


def test_a_line_that_has_its_result_cannot_be_given_up() -> None:
    given = lines(1)
    line = given.take()
    finish(given, line, "fine")
    with pytest.raises(TooLate):
        give_up(given, line)
    assert given.results() == ["fine"]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no"), "no"),
        (SystemExit(3), "left by SystemExit: 3"),
        (KeyboardInterrupt(), "left by KeyboardInterrupt: "),
        (asyncio.CancelledError(), "left by CancelledError: "),
        (StopIteration(), ""),
        (Mute(), "Mute, whose text cannot be read"),
    ],
)
def test_whatever_is_raised_is_the_result_of_the_line(error: BaseException, told: str) -> None:
    given = lines(1)
    with given.one_result(given.take(), failed):
        raise error
    assert given.results() == [f"line 0: {told}"] and given.are_over


def test_it_is_not_over_before_the_result_of_a_failure_is_made() -> None:
    given = lines(1)
    over: list[bool] = []

    def slowly(line: Line, error: Exception) -> Any:
        over.append(given.are_over)
        return "failed"

    with given.one_result(given.take(), slowly):
        raise ValueError
    assert over == [False] and given.are_over


def test_after_a_stop_only_those_that_run_are_left() -> None:
    given = lines()
    line = given.take()
    given.stop()
    assert given.take() is None and not given.are_over
    finish(given, line, "fine")
    assert given.are_over and given.total == 5 and given.done == 1


def test_many_workers_share_them() -> None:
    given = lines(2000)

    def work() -> None:
        while line := given.take():
            finish(given, line, line.number + 1)

    workers = [threading.Thread(target=work) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert given.results() == list(range(1, 2001))


def test_of_two_that_end_a_line_at_once_one_does() -> None:
    given = lines(500)
    taken = [given.take() for _ in range(500)]
    ends: list[int] = []

    def end(make: Any) -> None:
        for line in taken:
            with suppress(TooLate):
                make(line)
                ends.append(line.number)

    workers = [
        threading.Thread(target=end, args=(lambda line: finish(given, line, "fine"),)),
        threading.Thread(target=end, args=(lambda line: give_up(given, line),)),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(ends) == list(range(500)) and len(given.results()) == 500


@pytest.mark.parametrize(("times", "stops", "hurries"), [(0, False, False), (1, True, False), (2, True, True)])
def test_asked_once_it_stops_asked_twice_it_hurries(times: int, stops: bool, hurries: bool) -> None:
    stop = StopRequest()
    for _ in range(times):
        stop.interrupt()
    assert (stop.stops, stop.hurries) == (stops, hurries)
