"""The workers of a batch: threads, or tasks for an async flow, that take one line after the other."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import datetime

from promptflow._utils.utils import log_progress
from promptflow.executor._errors import LineExecutionTimeoutError
from promptflow.executor._result import LineResult

from pf_mlflow.running.engine.line_executor import LineExecutor
from pf_mlflow.running.engine.lines import Line, Lines
from pf_mlflow.running.engine.watch import LineDone, Watch

__all__ = ["Workers"]

_POLL = 0.05
"""Seconds between two looks at the lines."""


class Workers:
    """Execute all lines of a batch.

    Args:
        executor: Executes one.
        lines: Hands them out.
        watch: Is told of lines that start and end.
        run_id: The batch's name.
    """

    def __init__(self, executor: LineExecutor, lines: Lines, watch: Watch, run_id: str) -> None:
        self._executor = executor
        self._lines = lines
        self._watch = watch
        self._run_id = run_id
        self._context = contextvars.copy_context()
        self._tasks: dict[int, asyncio.Task[LineResult]] = {}
        self._loops: set[asyncio.Task[None]] = set()
        self._start = self._start_task if executor.is_async else self._start_thread

    async def run(self, count: int, line_timeout: float) -> None:
        """Return when all lines are over; after a request to stop, when those are over that run, or at once.

        Args:
            count: How many lines are executed at once.
            line_timeout: Seconds after which a line is given up; its thread, which cannot be ended, is left to itself.
        """
        for _ in range(min(count, self._lines.total)):
            self._start()
        started, logged = datetime.utcnow(), 0
        while not self._lines.are_over and not self._watch.hurries:
            await asyncio.sleep(_POLL)
            if self._watch.stops:
                self._lines.stop()
            for line in self._lines.running_for(line_timeout):
                self._give_up(line, LineExecutionTimeoutError(line.number, line_timeout))
            logged = log_progress(started, self._lines.total, self._lines.done, logged)

    def _give_up(self, line: Line, error: Exception) -> None:
        """Let a line fail whatever its worker still does, and another worker take that one's place."""
        if self._lines.give_up(line):
            self._watch.line_given_up(self._run_id, line.number, error)
            result = self._executor.failed(line, error, given_up=True)
            self._lines.put_in(line, result)
            self._tell(line, result, line.seconds)
            if line.number in self._tasks:
                self._tasks[line.number].cancel()
            self._start()

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="pf-mlflow-lines", daemon=True).start()

    def _work(self) -> None:
        while (line := self._lines.take()) is not None:
            self._watch.line_started(self._run_id, line.number, line.inputs)
            result = self._context.copy().run(self._executor.execute, line)
            if not self._finish(line, result):
                return  # it was given up, and another works in this one's place

    def _start_task(self) -> None:
        task = asyncio.create_task(self._work_async())
        self._loops.add(task)
        task.add_done_callback(self._loops.discard)

    async def _work_async(self) -> None:
        while (line := self._lines.take()) is not None:
            self._watch.line_started(self._run_id, line.number, line.inputs)
            task = self._tasks[line.number] = asyncio.create_task(self._executor.execute_async(line))
            try:
                result = await task
            except asyncio.CancelledError:
                return
            finally:
                del self._tasks[line.number]
            if not self._finish(line, result):
                return

    def _finish(self, line: Line, result: LineResult) -> bool:
        seconds = line.seconds
        if not self._lines.finish(line, result):
            return False
        self._tell(line, result, seconds)
        return True

    def _tell(self, line: Line, result: LineResult, seconds: float) -> None:
        metrics = result.run_info.system_metrics or {}
        completed = result.run_info.status.value == "Completed"
        self._watch.line_done(LineDone(line.number, completed, seconds, metrics.get("total_tokens")))
