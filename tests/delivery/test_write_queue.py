from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pf_mlflow.delivery.retry_policy import Patience
from pf_mlflow.delivery.write_queue import Work
from pf_mlflow.errors import TrackingDown, TrackingRefused
from pf_mlflow.projection.write_result import Written


def quiet(error: TrackingDown, patience: Patience) -> None:
    pass


def works(threads: int = 4, is_time_up: Callable[[], bool] = lambda: False) -> Work:
    return Work(threads, is_time_up, quiet)


def written(number: int) -> Written:
    return Written(number, f"run-{number}", None)


def drain(work: Work, seconds: float = 20.0) -> Iterator[int]:
    until = time.monotonic() + seconds
    while not work.is_idle:
        assert time.monotonic() < until
        yield from (one.line_number for one in work.finished(0.05))


def test_every_line_is_written_once() -> None:
    counted: Counter[int] = Counter()

    def step(number: int) -> Written:
        counted[number] += 1
        return written(number)

    with works() as work:
        done = []
        for number in range(200):
            work.offer(number, lambda number=number: step(number))  # type: ignore[misc]
            done += [one.line_number for one in work.finished(0)]
        done += list(drain(work))
    assert sorted(done) == list(range(200)) and counted == Counter(range(200))


@pytest.mark.parametrize("threads", [1, 4])
def test_several_at_a_time_but_one_line_by_one_thread(threads: int) -> None:
    lock, go = threading.Lock(), threading.Event()
    tries, at_once, most = Counter[int](), Counter[int](), []

    def step(number: int) -> Written:
        with lock:
            tries[number] += 1
            at_once[number] += 1
            most.append((at_once[number], at_once.total()))
        assert go.wait(10)
        time.sleep(0.01)
        with lock:
            at_once[number] -= 1
        return written(number)

    with works(threads) as work:
        for _ in range(3):  # again while they are being written
            for number in range(20):
                work.offer(number, lambda number=number: step(number))  # type: ignore[misc]
            assert list(work.finished(0)) == []
        go.set()
        assert sorted(drain(work)) == list(range(20))
    assert max(own for own, _ in most) == 1 and max(total for _, total in most) == threads
    assert tries == Counter(range(20))


def test_what_mlflow_did_not_take_is_tried_again_and_the_others_do_not_wait_for_it() -> None:
    tries: Counter[int] = Counter()
    told: list[tuple[str, bool]] = []

    def step(number: int) -> Written:
        tries[number] += 1
        if number == 0 and tries[0] <= 3:
            raise TrackingDown("no answer")
        return written(number)

    with Work(4, lambda: False, lambda error, patience: told.append((str(error), patience.is_down))) as work:
        for number in range(20):
            work.offer(number, lambda number=number: step(number))  # type: ignore[misc]
        order = list(drain(work))
    assert sorted(order) == list(range(20)) and order[-1] == 0
    assert tries == Counter(range(20)) + Counter({0: 3})
    assert told == 3 * [("no answer", False)]


def test_a_line_that_was_written_may_be_offered_anew() -> None:
    with works() as work:
        for _ in range(2):
            work.offer(1, lambda: written(1))
            assert list(drain(work)) == [1]


@pytest.mark.parametrize(
    "error, is_time_up", [(TrackingRefused("a deleted experiment"), False), (TrackingDown("no answer"), True)]
)
def test_trouble_that_holds_for_all_ends_it_at_once(error: Exception, is_time_up: bool) -> None:
    started = []

    def step(number: int) -> Written:
        started.append(number)
        time.sleep(0.05)
        if number == 0:
            raise error
        return written(number)

    with pytest.raises(type(error)) as told, works(2, lambda: is_time_up) as work:
        for number in range(100):
            work.offer(number, lambda number=number: step(number))  # type: ignore[misc]
        list(drain(work))
    assert told.value is error and len(started) < 20


def test_while_nobody_is_answered_one_line_at_a_time_is_tried() -> None:
    lock, running, most = threading.Lock(), [0], []
    answers = threading.Event()

    def step(number: int) -> Written:
        with lock:
            running[0] += 1
            most.append((work.patience.is_down, running[0]))
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        if answers.is_set():
            return written(number)
        raise TrackingDown("no answer")

    with works(4) as work:
        for number in range(8):
            work.offer(number, lambda number=number: step(number))  # type: ignore[misc]
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert list(work.finished(0.02)) == []
        assert work.patience.is_down and len(most) < 40
        answers.set()
        assert sorted(drain(work)) == list(range(8))
    probes = [at_once for is_down, at_once in most if is_down]
    assert probes and max(probes[4:]) == 1


def test_its_room() -> None:
    go = threading.Event()

    def step(number: int) -> Written:
        assert go.wait(10)
        return written(number)

    with works(2) as work:
        assert (work.is_idle, work.is_full, len(work), work.room) == (True, False, 0, 2 * 2 * 4)
        for number in range(2 * 2 * 4):
            work.offer(number, lambda number=number: step(number))  # type: ignore[misc]
        assert (work.is_idle, work.is_full, len(work), work.room) == (False, True, 2 * 2 * 4, 0)
        assert list(work.finished(0)) == []
        go.set()
        assert len(list(drain(work))) == 2 * 2 * 4
        assert work.is_idle and not work.is_full


def test_waiting_for_nothing_takes_the_time_that_was_given() -> None:
    with works() as work:
        begun = time.monotonic()
        assert list(work.finished(0.1)) == []
        assert 0.1 <= time.monotonic() - begun < 1
