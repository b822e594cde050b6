"""The workers of a batch: threads, or tasks for an async flow, that take one line after the other."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import suppress
from datetime import datetime

from promptflow._utils.utils import log_progress
from promptflow.executor._errors import LineExecutionTimeoutError
from promptflow.executor._result import LineResult

from pf_mlflow.running.engine.late_imports import import_pandas_meanwhile
from pf_mlflow.running.engine.line_executor import LineExecutor
from pf_mlflow.running.engine.lines import Line, Lines, TooLate
from pf_mlflow.running.observer import Observer, StopRequest

__all__ = ["Workers"]

_POLL = 0.05
"""Seconds between two looks at the lines."""


class Workers:
    """Execute all lines of a batch.

    Args:
        executor: Executes one.
        lines: Hands them out.
        observer: Gets the events of lines.
        stop: Says whether more lines are to be taken.
    """

    def __init__(self, executor: LineExecutor, lines: Lines, observer: Observer, stop: StopRequest) -> None:
        self._executor = executor
        self._lines = lines
        self._observer = observer
        self._stop = stop
        self._attempts: dict[int, asyncio.Task[LineResult]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._start = self._start_task if executor.is_async else self._start_thread

    async def run(self, count: int, line_timeout: float) -> None:
        """Return when all lines are over; after a request to stop, when those are over that run, or at once.

        Args:
            count: How many lines are executed at once.
            line_timeout: Seconds after which a line is given up; its thread, which cannot be ended, is left to itself.
        """
        for _ in range(min(count, self._lines.total)):
            self._start()
        import_pandas_meanwhile()
        started, logged = datetime.utcnow(), 0
        while not self._lines.are_over and not self._stop.hurries:
            await asyncio.sleep(_POLL)
            if self._stop.stops:
                self._lines.stop()
            for line in self._lines.running_for(line_timeout):
                self._give_up(line, LineExecutionTimeoutError(line.number, line_timeout))
            logged = log_progress(started, self._lines.total, self._lines.done, logged)

    def _give_up(self, line: Line, error: Exception) -> None:
        """Let a line fail whatever its worker still does, and another worker take that one's place."""
        with suppress(TooLate):
            with self._lines.one_result(line, self._given_up):
                raise error
            self._observe(line)
            if line.number in self._attempts:
                self._attempts[line.number].cancel()
            self._start()

    def _given_up(self, line: Line, error: Exception) -> LineResult:
        self._observer.line_given_up(line.number, error)
        return self._executor.failed(line, error)

    def _start_thread(self) -> None:
        work = contextvars.copy_context().run
        threading.Thread(target=work, args=(self._work,), name="pf-mlflow-lines", daemon=True).start()

    def _work(self) -> None:
        with suppress(TooLate):  # another works in this one's place
            while line := self._lines.take():
                with self._lines.one_result(line, self._executor.failed):
                    self._observer.line_started(line.number, line.inputs)
                    line.result = contextvars.copy_context().run(self._executor.execute, line)
                self._observe(line)

    def _start_task(self) -> None:
        task = asyncio.create_task(self._work_async())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_async(self) -> None:
        with suppress(TooLate):
            while line := self._lines.take():
                attempt = self._attempts[line.number] = asyncio.create_task(self._attempt(line))
                await asyncio.wait([attempt])
                del self._attempts[line.number]
                with self._lines.one_result(line, self._executor.failed):
                    line.result = attempt.result()
                self._observe(line)

    async def _attempt(self, line: Line) -> LineResult:
        self._observer.line_started(line.number, line.inputs)
        return await self._executor.execute_async(line)

    def _observe(self, line: Line) -> None:
        info = self._lines.result(line).run_info
        tokens = (info.system_metrics or {}).get("total_tokens")
        self._observer.line_done(line.number, info.status.value == "Completed", line.seconds, tokens)
