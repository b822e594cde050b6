"""Executes one line by promptflow's executor, made fit for many lines at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from promptflow._constants import LINE_NUMBER_KEY
from promptflow._utils.dataclass_serializer import convert_dataclass_to_dict
from promptflow._utils.exception_utils import ExceptionPresenter
from promptflow._utils.logger_utils import bulk_logger
from promptflow.contracts.run_info import FlowRunInfo, RunInfo, Status
from promptflow.contracts.run_mode import RunMode
from promptflow.executor._async_nodes_scheduler import AsyncNodesScheduler
from promptflow.executor._result import LineResult
from promptflow.executor._script_executor import ScriptExecutor
from promptflow.executor.flow_executor import DEFAULT_CONCURRENCY_BULK, FlowExecutor
from promptflow.tracing._operation_context import OperationContext

from pf_mlflow.running.engine.line_logs import LineLogs, SharedNodeLogs
from pf_mlflow.running.engine.line_storage import LineStorage
from pf_mlflow.running.engine.lines import Line, Lines, as_exception
from pf_mlflow.running.engine.replaced import replaced
from pf_mlflow.running.observer import Observer

__all__ = ["LineExecutor"]


class LineExecutor:
    """Executes lines of one batch; safe for threads and tasks. Use it in its `prepared` block.

    Args:
        executor: promptflow's executor of the flow: of a DAG, a flex flow or a prompty.
        run_id: The batch's name.
        output_dir: Where images in outputs are kept.
        lines: Tells which lines were given up: what still comes of them is dropped.
        observer: Hears promptflow's last word on each line.
    """

    def __init__(self, executor: Any, run_id: str, output_dir: Path, lines: Lines, observer: Observer) -> None:
        self._executor = executor
        self._run_id = run_id
        self._output_dir = output_dir
        self._observer = observer
        self._is_script = isinstance(executor, ScriptExecutor)
        self._holder = executor if self._is_script else executor._run_tracker
        self._storage = LineStorage(self._holder._storage, lines)
        self._logs = LineLogs()
        self._prints = SharedNodeLogs()

    @property
    def is_async(self) -> bool:
        """Whether the flow's lines are coroutines."""
        return bool(self._executor._is_async if self._is_script else self._executor._should_use_async())

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Let the lines share what each would set up and take down for itself."""
        OperationContext.get_instance().run_mode = RunMode.Batch.name
        self._executor._line_timeout_sec = None  # it would cost each line a thread; `Workers` looks after all
        with ExitStack() as stack:
            stack.enter_context(self._logs)
            stack.enter_context(self._prints.in_place())
            stack.enter_context(replaced(AsyncNodesScheduler, "run_task_with_semaphore", _executed))
            stack.enter_context(replaced(FlowExecutor, "_stringify_generator_output_async", _joined))
            stack.callback(setattr, self._holder, "_storage", self._storage.inner)
            self._holder._storage = self._storage
            if self._is_script:
                self._executor._exec_line_context = self._script_context
            else:
                stack.callback(setattr, self._holder, "node_log_manager", self._holder.node_log_manager)
                self._holder.node_log_manager = self._prints
            yield

    @contextmanager
    def _script_context(self, run_id: str, number: int) -> Iterator[None]:
        with self._prints.of_line(f"{run_id}_{number}", number):
            with self._executor._update_operation_context(run_id, number):
                yield

    def execute(self, line: Line) -> LineResult:
        """Return the result of a line; in a context of the line's own."""
        OperationContext.set_instance(OperationContext.get_instance().copy())
        with self._logs.of_line(line.number):
            return self._finished(line, self._executor.exec_line(**self._arguments(line)))

    async def execute_async(self, line: Line) -> LineResult:
        """Return the result of a line of an async flow; in a task of the line's own."""
        OperationContext.set_instance(OperationContext.get_instance().copy())
        with self._logs.of_line(line.number):
            return self._finished(line, await _unleavable(self._executor.exec_line_async(**self._arguments(line))))

    def _arguments(self, line: Line) -> dict[str, Any]:
        more = {"sync_iterator_to_async": False} if self.is_async and not self._is_script else {}
        return {
            "inputs": dict(line.inputs),
            "index": line.number,
            "run_id": self._run_id,
            "node_concurrency": DEFAULT_CONCURRENCY_BULK,
            **more,
        }

    def _finished(self, line: Line, result: LineResult) -> LineResult:
        output: Any = {}
        if result.run_info.status is Status.Completed:
            output = convert_dataclass_to_dict(result.output)
            if isinstance(output, dict):
                output.pop(LINE_NUMBER_KEY, None)
            output = self._executor._multimedia_processor.persist_multimedia_data(output, self._output_dir)
        return self._ended(line, result, output)

    def _ended(self, line: Line, result: LineResult, output: Any) -> LineResult:
        """Return output, status, error and token counts of a line: promptflow's result holds its values many times."""
        self._observer.line_ended(line.number, line.inputs, result)
        info = result.run_info
        nodes = {name: _node_status(name, node.status) for name, node in result.node_run_infos.items()}
        info.inputs = info.output = info.result = info.api_calls = None
        return LineResult(output, result.aggregation_inputs, info, nodes)

    def failed(self, line: Line, error: Exception) -> LineResult:
        """Return the result of a line that promptflow's executor gave none of, and keep it in promptflow's folder."""
        bulk_logger.error(f"Line {line.number} failed with exception: {error}")
        now = datetime.utcnow()
        info = FlowRunInfo(
            run_id=f"{self._run_id}_{line.number}",
            status=Status.Failed,
            error=ExceptionPresenter.create(error).to_dict(include_debug_info=True),
            inputs={name: value for name, value in line.inputs.items() if name != "line_number"},
            output=None,
            metrics=None,
            request=None,
            parent_run_id=self._run_id,
            root_run_id=self._run_id,
            source_run_id=None,
            flow_id=self._executor._flow_id,
            start_time=now - timedelta(seconds=line.seconds),
            end_time=now,
            index=line.number,
            system_metrics={"duration": line.seconds},
            message_format=self._executor._message_format,
        )
        try:
            self._storage.inner.persist_flow_run(info)
        except Exception as trouble:  # noqa: BLE001 - a full disk, say: the line has its result all the same
            bulk_logger.error(f"Line {line.number} cannot be kept in promptflow's folder: {trouble}")
        return self._ended(line, LineResult({}, {}, info, {}), {})


async def _executed(scheduler: AsyncNodesScheduler, node: Awaitable[Any]) -> Any:
    """Execute a node of an async flow, which is a task of its own."""
    async with scheduler._semaphore:
        return await _unleavable(node)


async def _joined(executor: FlowExecutor, outputs: dict[str, Any]) -> dict[str, Any]:
    """Join the streams among a line's outputs; one that breaks, promptflow would keep as it is, without its error."""
    streams: list[Awaitable[None]] = []
    for name, value in outputs.items():
        if isinstance(value, AsyncIterator):
            streams.append(executor._merge_async_iterator(value, outputs, name))
        elif isinstance(value, Iterator):
            streams.append(asyncio.to_thread(executor._merge_iterator, value, outputs, name))
    await asyncio.gather(*map(_unleavable, streams))
    return outputs


async def _unleavable(work: Awaitable[Any]) -> Any:
    """Await a task's work; asyncio would let `sys.exit()` in it end its loop, and with that the batch."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise as_exception(error) from error


@cache
def _node_status(node: str, status: Status) -> RunInfo:
    """Return one object for all lines: the batch counts nothing but nodes by status."""
    nothing = dict.fromkeys(["inputs", "output", "metrics", "error", "start_time", "end_time"])
    return RunInfo(node=node, status=status, flow_run_id="", run_id="", parent_run_id="", **nothing)
