"""Has promptflow's batch engine end with its last line: by itself it looks only once a second whether all are over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any

import promptflow.batch._batch_engine as batch_engine

from pf_mlflow.running.engine.replaced import replaced

__all__ = ["WokenByTasks", "ends_promptly"]


class WokenByTasks:
    """`asyncio` for a module that sleeps between two looks at its tasks: when all are done, it sleeps no longer."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def __getattr__(self, name: str) -> Any:
        """Return what `asyncio` has of that name."""
        return getattr(asyncio, name)

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Return a task that is looked at."""
        self._tasks.append(asyncio.create_task(coroutine))
        return self._tasks[-1]

    async def sleep(self, seconds: float) -> None:
        """Sleep so long at the most."""
        await asyncio.wait(self._tasks, timeout=seconds)


def ends_promptly() -> AbstractContextManager[None]:
    """Have batches end at once while the block lasts."""
    return replaced(batch_engine, "asyncio", WokenByTasks())
