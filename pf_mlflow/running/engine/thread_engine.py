"""Exchanges the step of promptflow's batch engine that executes the lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptflow._proxy._proxy_factory import ProxyFactory
from promptflow._proxy._python_executor_proxy import PythonExecutorProxy
from promptflow.executor._result import LineResult

from pf_mlflow.running.engine.line_executor import LineExecutor
from pf_mlflow.running.engine.lines import Lines
from pf_mlflow.running.engine.plain_rows import read_plainly
from pf_mlflow.running.engine.prompt_end import ends_promptly
from pf_mlflow.running.engine.shortcuts import shortcuts
from pf_mlflow.running.engine.workers import Workers
from pf_mlflow.running.observer import Observer, StopRequest
from pf_mlflow.sources.promptflow.private_names import taken_by

__all__ = ["ThreadEngine"]

_LANGUAGE = "python"
_LINE_TIMEOUT = 600


class ThreadEngine:
    """Executes batches in this process.

    Args:
        concurrency: Lines at once.
        observer: Looks on.
        stop: Says whether more lines are to be taken.
        limit: How many lines at the most, the first ones; `None` for all.
    """

    def __init__(self, concurrency: int, observer: Observer, stop: StopRequest, limit: int | None = None) -> None:
        self._concurrency = concurrency
        self._observer = observer
        self._stop = stop
        self._limit = limit

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have promptflow's batches executed by this engine."""
        engine = self

        class Proxy(PythonExecutorProxy):  # type: ignore[misc]
            async def _exec_batch(
                self,
                batch_inputs: Sequence[Mapping[str, Any]],
                output_dir: Path,
                run_id: str,
                batch_timeout_sec: int | None = None,
                line_timeout_sec: int | None = None,
                worker_count: int | None = None,
            ) -> tuple[list[LineResult], bool]:
                timeout = line_timeout_sec or _LINE_TIMEOUT
                return await engine._execute(self._flow_executor, batch_inputs, output_dir, run_id, timeout), False

            @property
            def allow_aggregation(self) -> bool:
                return not engine._stop.stops

        before = ProxyFactory.executor_proxy_classes[_LANGUAGE]
        ProxyFactory.register_executor(_LANGUAGE, Proxy)
        try:
            with ends_promptly(), read_plainly():
                yield
        finally:
            ProxyFactory.register_executor(_LANGUAGE, before)

    async def _execute(
        self, executor: Any, inputs: Sequence[Mapping[str, Any]], output_dir: Path, run_id: str, line_timeout: float
    ) -> list[LineResult]:
        lines = Lines(taken_by(executor, one) for one in inputs[: self._limit])
        self._observer.batch_started(run_id, lines.total)
        line_executor = LineExecutor(executor, run_id, output_dir, lines, self._observer)
        with line_executor.prepared(), shortcuts():
            await Workers(line_executor, lines, self._observer, self._stop).run(self._concurrency, line_timeout)
            return lines.results()
