"""What tracking costs a line and a worker: `python -m benchmarks.overhead`, about two minutes."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from fake_llm import FakeLlm
from machine import ROOT, SECRET, Machine

from benchmarks.report import measured_on, table

LINES = {0.0: 1000, 0.2: 200}
"""How many lines are timed at which latency of the model, in seconds."""
TOPIC = "x" * 500
"""It stands in a record's spans a dozen times: 10 KB in all."""
WORKERS = 4


def main() -> None:
    """Print both tables."""
    print(f"Measured {measured_on()}\n")
    with _parts() as (machine, llm):
        print(time_in_a_line(machine, llm), "\n")
        print(memory_of_a_worker(machine))


@contextmanager
def _parts() -> Iterator[tuple[Machine, FakeLlm]]:
    folder = Path(tempfile.mkdtemp(prefix="benchmark"))
    llm = FakeLlm()
    machine = Machine(folder / "machine")
    machine.connect(llm.base_url)
    try:
        yield machine, llm
    finally:
        llm.close()
        shutil.rmtree(folder, ignore_errors=True)


def time_in_a_line(machine: Machine, llm: FakeLlm) -> str:
    """Time our nodes' calls and the span processor, line by line, while the delivery process works beside."""
    os.environ.update(machine.env | {"PF_DISABLE_TRACING": "false", "MLFLOW_TRACKING_URI": _sqlite(machine)})
    spent: defaultdict[str, float] = defaultdict(float)
    sizes: list[int] = []
    _time_our_calls(spent, sizes)
    executor = _executor(llm)
    rows = []
    for latency, lines in LINES.items():
        llm.latency = latency
        sizes.clear()
        millis = [_line(executor, number, f"overhead_{latency}", spent) for number in range(lines)]
        settled = sorted(millis[10:])
        percentiles = [_ms(settled, share) for share in (0.5, 0.9, 0.99)]
        rows.append(
            [f"{latency} s", f"{lines:,}", f"{statistics.mean(sizes):,.0f}", *percentiles, f"{max(millis):.0f}"]
        )
    llm.latency = 0.0
    head = ["LLM", "lines", "record, bytes", "p50, ms", "p90, ms", "p99, ms", "slowest (the first line), ms"]
    return f"Time inside our nodes and span processor per line:\n\n{table(head, rows)}"


def _executor(llm: FakeLlm) -> Any:
    import logging

    from promptflow.contracts.run_mode import RunMode
    from promptflow.executor import FlowExecutor
    from promptflow.tracing._operation_context import OperationContext

    logging.disable(logging.WARNING)
    connection = {"type": "OpenAIConnection", "value": {"api_key": SECRET, "base_url": llm.base_url}}
    os.chdir(ROOT)
    executor = FlowExecutor.create(ROOT / "flow.dag.yaml", {"open_ai_connection": connection}, ROOT, raise_ex=False)
    OperationContext.get_instance().run_mode = RunMode.Batch.name
    return executor


def _line(executor: Any, number: int, run: str, spent: defaultdict[str, float]) -> float:
    spent.clear()
    executor.exec_line({"topic": TOPIC}, index=number, run_id=run, node_concurrency=2)
    return sum(spent.values()) * 1000


def _time_our_calls(spent: defaultdict[str, float], sizes: list[int]) -> None:
    import pf_mlflow
    from pf_mlflow import live_source
    from pf_mlflow.spool import Spool

    lock = threading.Lock()

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with lock:
                    spent[name] += time.perf_counter() - started

        return call

    for name in ("open_line", "record_nodes", "child_run_id"):
        setattr(pf_mlflow, name, timed(name, getattr(pf_mlflow, name)))
    processor = live_source._processor
    for name in ("on_start", "on_end"):
        setattr(processor, name, timed(name, getattr(processor, name)))
    complete = Spool.complete_line

    def measured(self: Spool, uid: str, number: int, start: float, record: str) -> None:
        sizes.append(len(record))
        complete(self, uid, number, start, record)

    Spool.complete_line = measured  # type: ignore[method-assign]


def _ms(ordered: list[float], share: float) -> str:
    return f"{ordered[int(share * (len(ordered) - 1))]:.2f}"


def memory_of_a_worker(machine: Machine) -> str:
    """Compare the workers of a batch with and without the nodes, promptflow's tracing on in both."""
    bare = _bare_flow(machine.folder / "bare")
    data = machine.data("memory", [{"topic": f"[[latency=1]] {number}"} for number in range(WORKERS * 6)])
    rows = []
    for method in ("fork", "spawn"):
        without = _workers_memory(machine, bare, data, method)
        with_nodes = _workers_memory(machine, ROOT, data, method)
        ratio = with_nodes / without
        rows.append([method, f"{without / 2**20:.1f}", f"{with_nodes / 2**20:.1f}", f"{ratio:.3f}"])
    return f"Memory of a worker (mean of {WORKERS}, resident):\n\n" + table(
        ["start method", "without the nodes, MiB", "with them, MiB", "ratio"], rows
    )


def _bare_flow(folder: Path) -> Path:
    folder.mkdir()
    dag = yaml.safe_load((ROOT / "flow.dag.yaml").read_text("utf-8"))
    dag["nodes"] = [node for node in dag["nodes"] if node["name"] == "joke"]
    dag["outputs"] = {"joke": {"type": "string", "reference": "${joke.output}"}}
    (folder / "flow.dag.yaml").write_text(json.dumps(dag), "utf-8")
    shutil.copy(ROOT / "joke.jinja2", folder)
    shutil.copy(ROOT / "requirements.txt", folder)
    return folder


def _workers_memory(machine: Machine, flow: Path, data: Path, method: str) -> float:
    words = ["pf", "run", "create", "--flow", str(flow), "--data", str(data), "--column-mapping", "topic=${data.topic}"]
    process = machine.start(*words, PF_BATCH_METHOD=method, PF_WORKER_COUNT=str(WORKERS))
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for worker in _workers(process.pid):
            try:
                peaks[worker.pid] = max(peaks.get(worker.pid, 0), worker.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.1)
    process.communicate()
    if len(peaks) < WORKERS:
        raise SystemExit(f"saw {len(peaks)} workers of {WORKERS}")
    return statistics.mean(sorted(peaks.values())[-WORKERS:])


def _workers(client: int) -> list[psutil.Process]:
    """Return the processes that execute lines: multiprocessing children that have none of their own."""
    try:
        below = psutil.Process(client).children(recursive=True)
        spawned = [one for one in below if any("spawn_main" in word for word in one.cmdline())]
        return [one for one in spawned if not [child for child in one.children() if child in spawned]]
    except psutil.NoSuchProcess:
        return []


def _sqlite(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'benchmark.db'}"


if __name__ == "__main__":
    main()
