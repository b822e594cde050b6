"""A batch ends with its last line."""

from __future__ import annotations

import asyncio

import promptflow.batch._batch_engine as batch_engine

from pf_mlflow.running.engine.prompt_end import WokenByTasks, ends_promptly


async def look(woken: WokenByTasks) -> list[bool]:
    """Look at a task as promptflow does at the lines of a batch, twice before its end and once after."""
    last_line = asyncio.Event()
    task, seen = woken.create_task(last_line.wait()), []
    for seconds in (0.01, 0.01, 1000):
        if seconds == 1000:
            asyncio.get_running_loop().call_later(0.01, last_line.set)
        await woken.sleep(seconds)
        seen.append(task.done())
    return seen


def test_it_sleeps_as_long_as_it_is_told_and_no_longer_than_the_lines_last() -> None:
    assert asyncio.run(asyncio.wait_for(look(WokenByTasks()), 60)) == [False, False, True]


def test_promptflow_sleeps_so_while_a_batch_runs() -> None:
    with ends_promptly():
        assert isinstance(batch_engine.asyncio, WokenByTasks)
        assert batch_engine.asyncio.Semaphore is asyncio.Semaphore
    assert batch_engine.asyncio is asyncio
