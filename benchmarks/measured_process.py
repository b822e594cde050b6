"""Executes lines as a worker does and times our calls in them; arguments: the model's address, its latency, the lines.

A process of its own per measurement, which like a worker imports no mlflow and starts the delivery process itself. It
prints one line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

FLOW = Path(__file__).parent.parent
TOPIC = "x" * 500
"""It stands in a record's spans a dozen times: 10 KB in all."""
NODE_CALLS = ("open_line", "record_nodes", "child_run_id")
PROCESSOR_CALLS = ("on_start", "on_end")


class Stopwatch:
    """Sums up the wall and CPU milliseconds that calls take, by their name."""

    def __init__(self) -> None:
        self.wall: defaultdict[str, float] = defaultdict(float)
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def timed(self, holder: Any, name: str) -> None:
        """Have the calls of an object's function timed from now on."""
        function = getattr(holder, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            started, cpu_started = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                cpu, wall = time.thread_time() - cpu_started, time.perf_counter() - started
                with self._lock:
                    self.wall[name] += wall * 1000
                    self.cpu[name] += cpu * 1000

        setattr(holder, name, call)

    def reset(self) -> None:
        self.wall.clear()
        self.cpu.clear()


def main(llm: str, latency: str, lines: str) -> None:
    """Execute the lines of a batch one after the other."""
    stopwatch, sizes = Stopwatch(), []
    _measure_records(sizes)
    executor = _executor(llm, stopwatch)
    topic = f"[[latency={latency}]]{TOPIC}" if float(latency) else TOPIC
    taken = [_line(executor, number, f"overhead_{latency}", topic, stopwatch) for number in range(int(lines))]
    told = {
        "wall": [sum(wall.values()) for wall, _ in taken],
        "cpu": [sum(cpu.values()) for _, cpu in taken],
        "calls": {name: [wall.get(name, 0.0) for wall, _ in taken] for name in (*NODE_CALLS, *PROCESSOR_CALLS)},
        "record_bytes": statistics.mean(sizes),
    }
    print(json.dumps(told), flush=True)


def _line(
    executor: Any, number: int, run: str, topic: str, stopwatch: Stopwatch
) -> tuple[dict[str, float], dict[str, float]]:
    stopwatch.reset()
    result = executor.exec_line({"topic": topic}, index=number, run_id=run, node_concurrency=2)
    if result.run_info.status.value != "Completed":
        raise SystemExit(f"line {number}: {result.run_info.error}")
    return dict(stopwatch.wall), dict(stopwatch.cpu)


def _executor(llm: str, stopwatch: Stopwatch) -> Any:
    import pf_mlflow

    for name in NODE_CALLS:
        stopwatch.timed(pf_mlflow, name)

    from opentelemetry import trace
    from promptflow.contracts.run_mode import RunMode
    from promptflow.executor import FlowExecutor
    from promptflow.tracing._operation_context import OperationContext

    logging.disable(logging.WARNING)
    connection = {"type": "OpenAIConnection", "value": {"api_key": "sk-none", "base_url": llm}}
    os.chdir(FLOW)
    executor = FlowExecutor.create(FLOW / "flow.dag.yaml", {"open_ai_connection": connection}, FLOW, raise_ex=False)
    OperationContext.get_instance().run_mode = RunMode.Batch.name
    # The nodes' import has attached our processor.
    processors = trace.get_tracer_provider()._active_span_processor._span_processors  # type: ignore[attr-defined]
    for processor in processors:
        if type(processor).__module__.startswith("pf_mlflow"):
            for name in PROCESSOR_CALLS:
                stopwatch.timed(processor, name)
    return executor


def _measure_records(sizes: list[int]) -> None:
    from pf_mlflow.records.line import LineRecord

    to_json = LineRecord.to_json

    def measured(self: LineRecord) -> str:
        text = to_json(self)
        if self.spans:  # a line is opened with a draft that has none
            sizes.append(len(text.encode()))
        return text

    LineRecord.to_json = measured  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
