"""What tracking costs a worker in memory: `python -m benchmarks.memory`, about two minutes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import psutil
from machine import ROOT, Machine

from benchmarks.parts import bare_flow, end_processes, own_folder, serving
from benchmarks.report import measured_on, table

WORKERS = 4


def main() -> None:
    """Print the table."""
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("llm") as llm:
        machine = Machine(folder / "machine")
        machine.connect(llm)
        print(memory_of_a_worker(machine))


def memory_of_a_worker(machine: Machine) -> str:
    """Compare the workers of a batch with and without the nodes, promptflow's tracing on in both."""
    bare = bare_flow(machine.folder / "bare")
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
    end_processes(machine.folder, patience=30)
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


if __name__ == "__main__":
    main()
