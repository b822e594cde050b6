from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pf_mlflow.delivery.retry_policy import CircuitBreaker, Deadline
from pf_mlflow.delivery.write_queue import QueuedLine, WriteQueue
from pf_mlflow.errors import TrackingDown, TrackingRefused
from pf_mlflow.projection.write_result import LineWritten

NEVER = Deadline(1.0, lambda: None)
AT_ONCE = Deadline(-1.0)


def queue_of(step: Callable[[int], LineWritten], threads: int = 4, breaker: CircuitBreaker | None = None) -> WriteQueue:
    return WriteQueue(lambda line, _: step(line.line_number), breaker or CircuitBreaker(NEVER), threads)


def line(number: int, **changes: Any) -> QueuedLine:
    return QueuedLine(**{"line_number": number, "opened": 100.0, "seq": number, **changes})


def written(number: int) -> LineWritten:
    return LineWritten(number, f"run-{number}")


def drain(queue: WriteQueue, seconds: float = 20.0) -> Iterator[int]:
    until = time.monotonic() + seconds
    while not queue.is_idle:
        assert time.monotonic() < until
        yield from (one.line_number for one, _ in queue.finished(0.05))


def test_every_line_is_written_once() -> None:
    counted: Counter[int] = Counter()

    def step(number: int) -> LineWritten:
        counted[number] += 1
        return written(number)

    with queue_of(step) as queue:
        done = []
        for number in range(200):
            queue.offer(line(number))
            done += [one.line_number for one, _ in queue.finished(0)]
        done += list(drain(queue))
    assert sorted(done) == list(range(200)) and counted == Counter(range(200))


@pytest.mark.parametrize("threads", [1, 4])
def test_several_at_a_time_but_one_line_by_one_thread(threads: int) -> None:
    lock, go = threading.Lock(), threading.Event()
    tries, at_once, most = Counter[int](), Counter[int](), []

    def step(number: int) -> LineWritten:
        with lock:
            tries[number] += 1
            at_once[number] += 1
            most.append((at_once[number], at_once.total()))
        assert go.wait(10)
        time.sleep(0.01)
        with lock:
            at_once[number] -= 1
        return written(number)

    with queue_of(step, threads) as queue:
        for _ in range(3):  # again while they are being written
            for number in range(20):
                queue.offer(line(number))
            assert list(queue.finished(0)) == []
        go.set()
        assert sorted(drain(queue)) == list(range(20))
    assert max(own for own, _ in most) == 1 and max(total for _, total in most) == threads
    assert tries == Counter(range(20))


def test_what_mlflow_did_not_take_is_tried_again_and_the_others_do_not_wait_for_it() -> None:
    tries: Counter[int] = Counter()
    failures: list[tuple[str, bool]] = []
    breaker = CircuitBreaker(NEVER, lambda error: failures.append((str(error), breaker.is_open)))

    def step(number: int) -> LineWritten:
        tries[number] += 1
        if number == 0 and tries[0] <= 3:
            raise TrackingDown("no answer")
        return written(number)

    with queue_of(step, 4, breaker) as queue:
        for number in range(20):
            queue.offer(line(number))
        order = list(drain(queue))
    assert sorted(order) == list(range(20)) and order[-1] == 0
    assert tries == Counter(range(20)) + Counter({0: 3})
    assert failures == 3 * [("no answer", False)]


def test_a_line_that_was_written_may_be_offered_anew() -> None:
    with queue_of(written) as queue:
        for _ in range(2):
            queue.offer(line(1))
            assert list(drain(queue)) == [1]


@pytest.mark.parametrize(
    "error, deadline", [(TrackingRefused("a deleted experiment"), NEVER), (TrackingDown("no answer"), AT_ONCE)]
)
def test_trouble_that_holds_for_all_ends_it_at_once(error: Exception, deadline: Deadline) -> None:
    started = []

    def step(number: int) -> LineWritten:
        started.append(number)
        time.sleep(0.05)
        if number == 0:
            raise error
        return written(number)

    with pytest.raises(type(error)) as told, queue_of(step, 2, CircuitBreaker(deadline)) as queue:
        for number in range(100):
            queue.offer(line(number))
        list(drain(queue))
    assert told.value is error and len(started) < 20


def test_while_nobody_is_answered_one_line_at_a_time_is_tried() -> None:
    lock, running, most = threading.Lock(), [0], []
    answers, breaker = threading.Event(), CircuitBreaker(NEVER)

    def step(number: int) -> LineWritten:
        with lock:
            running[0] += 1
            most.append((breaker.is_open, running[0]))
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        if answers.is_set():
            return written(number)
        raise TrackingDown("no answer")

    with queue_of(step, 4, breaker) as queue:
        for number in range(8):
            queue.offer(line(number))
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert list(queue.finished(0.02)) == []
        assert breaker.is_open and len(most) < 40
        answers.set()
        assert sorted(drain(queue)) == list(range(8))
    probes = [at_once for is_down, at_once in most if is_down]
    assert probes[-2:] == [1, 1]


def test_its_room() -> None:
    go = threading.Event()

    def step(number: int) -> LineWritten:
        assert go.wait(10)
        return written(number)

    with queue_of(step, 2) as queue:
        assert (queue.is_idle, len(queue), queue.room) == (True, 0, 2 * 2 * 4)
        for number in range(2 * 2 * 4):
            queue.offer(line(number))
        assert (queue.is_idle, len(queue), queue.room) == (False, 2 * 2 * 4, 0)
        assert list(queue.finished(0)) == []
        go.set()
        assert len(list(drain(queue))) == 2 * 2 * 4
        assert queue.is_idle and queue.room


def test_waiting_for_nothing_takes_the_time_that_was_given() -> None:
    with queue_of(written) as queue:
        begun = time.monotonic()
        assert list(queue.finished(0.1)) == []
        assert 0.1 <= time.monotonic() - begun < 1


def test_of_a_line_that_is_offered_anew_what_is_known_last_is_written() -> None:
    go, seen = threading.Event(), []

    def write(line: QueuedLine, _: object) -> LineWritten:
        assert go.wait(10)
        seen.append(line.seq)
        return written(line.line_number)

    opened = line(1, seq=None)
    with WriteQueue(write, CircuitBreaker(NEVER), 1) as queue:
        queue.offer(opened)
        assert list(queue.finished(0)) == []  # it is being written
        for one in (opened, line(1, seq=5), line(1, seq=6)):
            queue.offer(one)
        go.set()
        assert list(drain(queue)) == [1, 1]
    assert seen == [None, 6]


def test_what_failed_does_not_take_the_place_of_what_is_known_since() -> None:
    go, tries = threading.Event(), []

    def write(line: QueuedLine, _: object) -> LineWritten:
        assert go.wait(10)
        tries.append(line.seq)
        if len(tries) == 1:
            raise TrackingDown("no answer")
        return written(line.line_number)

    with WriteQueue(write, CircuitBreaker(NEVER), 1) as queue:
        queue.offer(line(1, seq=None))
        assert list(queue.finished(0)) == []
        queue.offer(line(1, seq=5))
        go.set()
        assert list(drain(queue)) == [1]
    assert tries == [None, 5]
