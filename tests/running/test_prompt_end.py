"""A batch ends with its last line."""

from __future__ import annotations

import asyncio

import promptflow.batch._batch_engine as batch_engine

from pf_mlflow.running.engine.prompt_end import WokenByTasks, ends_promptly


async def look_until_done(woken: WokenByTasks, seconds: float) -> list[bool]:
    """Look at a task as promptflow does at the lines of a batch; return what is seen after each sleep."""
    task, seen = woken.create_task(asyncio.sleep(0.05)), [False]
    while not task.done():
        await woken.sleep(seconds)
        seen.append(task.done())
    return seen


def test_the_end_of_the_lines_ends_the_sleep() -> None:
    assert asyncio.run(asyncio.wait_for(look_until_done(WokenByTasks(), 1000), 60)) == [False, True]


def test_between_two_looks_it_sleeps_as_long_as_it_is_told() -> None:
    assert asyncio.run(look_until_done(WokenByTasks(), 0.01))[:3] == [False, False, False]


def test_promptflow_sleeps_so_while_a_batch_runs() -> None:
    with ends_promptly():
        assert isinstance(batch_engine.asyncio, WokenByTasks)
        assert batch_engine.asyncio.Semaphore is asyncio.Semaphore
    assert batch_engine.asyncio is asyncio
