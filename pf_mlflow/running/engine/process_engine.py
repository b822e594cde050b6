"""Has promptflow's own pool of processes execute a batch so that it can be looked at, interrupted and killed."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psutil
from promptflow._proxy._base_executor_proxy import AbstractExecutorProxy
from promptflow.executor import _line_execution_process_pool as pool
from promptflow.executor import _process_manager
from promptflow.executor._errors import ProcessInfoObtainedTimeout
from promptflow.executor._line_execution_process_pool import LineExecutionProcessPool
from promptflow.executor._process_manager import AbstractProcessManager, ProcessPoolConstants
from promptflow.executor._result import LineResult

from pf_mlflow.records.line import INTERRUPTED
from pf_mlflow.running.engine.replaced import replaced
from pf_mlflow.running.observer import Observer, StopRequest
from pf_mlflow.sources.promptflow.pool_processes import manage, serve_values, work

__all__ = ["ProcessEngine"]

_RESTARTED_WITHIN = 60.0
"""Seconds in which another worker takes the place of one that has ended."""
_start = LineExecutionProcessPool.start
_is_completed = LineExecutionProcessPool._is_batch_run_completed
_message = LineExecutionProcessPool._handle_output_queue_messages
_failed = LineExecutionProcessPool._generate_line_result_for_exception
_process_info = AbstractProcessManager.get_process_info


class ProcessEngine:
    """Executes one batch in promptflow's pool.

    Args:
        observer: Looks on.
        stop: Says whether more lines are to be taken.
    """

    def __init__(self, observer: Observer, stop: StopRequest) -> None:
        self._observer = observer
        self._stop = stop
        self._workers: dict[int, int] = {}
        self._has_hurried = False

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have promptflow's pool do so."""
        engine = self
        with ExitStack() as stack:
            for holder, name, value in (
                (pool, "Manager", serve_values),
                (pool, "_process_wrapper", work),
                (_process_manager, "create_spawned_fork_process_manager", manage),
                (AbstractProcessManager, "get_process_info", lambda *words: engine._worker(*words)),
                (AbstractExecutorProxy, "allow_aggregation", property(lambda proxy: engine._aggregates(proxy))),
                (LineExecutionProcessPool, "start", lambda lines: engine._begin(lines)),
                (LineExecutionProcessPool, "_get_task_from_queue", lambda lines, tasks: engine._next(tasks)),
                (LineExecutionProcessPool, "_is_batch_run_completed", lambda lines: engine._is_over(lines)),
                (LineExecutionProcessPool, "_handle_output_queue_messages", lambda *words: engine._hear(*words)),
                (LineExecutionProcessPool, "_generate_line_result_for_exception", lambda *w: engine._fail(*w)),
            ):
                stack.enter_context(replaced(holder, name, value))
            yield

    def _aggregates(self, proxy: Any) -> bool:
        return bool(proxy._allow_aggregation) and not self._stop.stops

    def _begin(self, lines: Any) -> None:
        self._observer.batch_started(lines._run_id, lines._nlines)
        keep = lines._storage.persist_node_run
        # a node that left its process has no end: promptflow would fail over it, and with that the batch
        lines._storage.persist_node_run = lambda node: node.end_time and keep(node)
        _start(lines)

    def _worker(self, manager: Any, index: int) -> tuple[int, int, str]:
        """Return a worker that was not known to have ended: promptflow may still name the one before.

        Each line given to that would be taken for the one over which it ended.
        """
        until = time.monotonic() + _RESTARTED_WITHIN
        while (found := _process_info(manager, index))[1] == self._workers.get(index):
            if time.monotonic() > until:
                raise ProcessInfoObtainedTimeout(_RESTARTED_WITHIN)
            time.sleep(0.1)
        self._workers[index] = found[1]
        return found  # type: ignore[no-any-return]

    def _next(self, tasks: Any) -> Any:
        """Return the next line for a worker, or that it is to end."""
        while not self._stop.stops:
            with suppress(queue.Empty):
                return tasks.get(timeout=1)
        return ProcessPoolConstants.TERMINATE_SIGNAL

    def _is_over(self, lines: Any) -> bool:
        if self._stop.hurries and not self._has_hurried:
            self._has_hurried = True
            for worker in list(self._workers.values()):
                with suppress(psutil.Error):
                    psutil.Process(worker).kill()
        return _is_completed(lines) or (self._stop.stops and lines._all_tasks_ready())

    def _hear(self, lines: Any, output_queue: Any) -> Any:
        message = _message(lines, output_queue)
        if isinstance(message, LineResult):
            self._done(message)
        return message

    def _fail(self, lines: Any, *words: Any) -> LineResult:
        inputs, run_id, number, flow_id, start, error, *more = words
        if self._has_hurried:
            error = type(INTERRUPTED, (Exception,), {})("the batch ended before the line did")
        result = _failed(lines, inputs, run_id, number, flow_id, start, error, *more)
        self._done(result)
        return result

    def _done(self, result: LineResult) -> None:
        info = result.run_info
        seconds = (info.end_time - info.start_time).total_seconds()
        tokens = (info.system_metrics or {}).get("total_tokens")
        self._observer.line_done(info.index, info.status.value == "Completed", seconds, tokens)
