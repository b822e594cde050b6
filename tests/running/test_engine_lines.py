"""Lines are handed out once, and each has one result whatever becomes of its worker."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from pf_mlflow.running.engine.lines import Lines
from pf_mlflow.running.engine.watch import Watch


def lines(count: int = 5) -> Lines:
    return Lines([{"line_number": number, "topic": f"topic {number}"} for number in range(count)])


def test_results_stand_in_the_order_of_the_lines() -> None:
    given: Any = lines()
    taken = [given.take() for _ in range(5)]
    assert given.take() is None and [line.number for line in taken] == list(range(5))
    for line in reversed(taken):
        assert not given.are_over and given.finish(line, f"result {line.number}")
    assert given.are_over and given.results() == [f"result {number}" for number in range(5)]


def test_a_line_that_was_given_up_keeps_the_result_it_got_then() -> None:
    given: Any = lines(2)
    late, other = given.take(), given.take()
    time.sleep(0.01)
    assert {line.number for line in given.running_for(0.005)} == {0, 1} and not given.running_for(5)
    assert given.give_up(late) and not given.is_running(0)
    given.put_in(late, "out of time")
    assert not given.finish(late, "too late") and given.finish(other, "fine")
    assert given.results() == ["out of time", "fine"] and given.are_over


def test_a_line_that_has_its_result_cannot_be_given_up() -> None:
    given: Any = lines(1)
    line = given.take()
    assert given.finish(line, "fine") and not given.give_up(line)


def test_after_a_stop_only_those_that_run_are_left() -> None:
    given: Any = lines()
    line = given.take()
    given.stop()
    assert given.take() is None and not given.are_over
    given.finish(line, "fine")
    assert given.are_over and given.total == 5 and given.done == 1


def test_many_workers_share_them() -> None:
    given: Any = lines(2000)

    def work() -> None:
        while line := given.take():
            given.finish(line, line.number)

    workers = [threading.Thread(target=work) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert given.results() == list(range(2000))


@pytest.mark.parametrize(("times", "stops", "hurries"), [(0, False, False), (1, True, False), (2, True, True)])
def test_asked_once_it_stops_asked_twice_it_hurries(times: int, stops: bool, hurries: bool) -> None:
    watch = Watch()
    for _ in range(times):
        watch.interrupt()
    assert (watch.stops, watch.hurries) == (stops, hurries)
