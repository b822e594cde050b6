"""What tracking costs a whole batch: `python -m benchmarks.wall [REPETITIONS]`, about five minutes.

`pf run create` of the flow with and without our nodes, by turns, with one environment, to an `mlflow server`.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from machine import ROOT, Machine, tracked

from benchmarks.parts import bare_flow, end_processes, own_folder, server, serving
from benchmarks.report import measured_on, table

LINES = 200
LATENCY = 0.5
_PATIENCE = 300.0
"""Seconds for which delivery may go on after `pf` has ended."""


def main(repetitions: int = 3) -> None:
    """Print the times and the ratio of their medians."""
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("llm") as llm, server(folder / "server") as uri:
        machine = Machine(folder / "machine", env={"MLFLOW_TRACKING_URI": uri})
        machine.connect(llm)
        flows = {"with": ROOT, "without": bare_flow(folder / "bare")}
        topics = [{"topic": f"[[latency={LATENCY}]] topic {number}"} for number in range(LINES)]
        data = machine.data("topics", topics)
        times: dict[str, list[float]] = {kind: [] for kind in flows}
        for number in range(repetitions):
            for kind, flow in flows.items():
                times[kind].append(_batch(machine, flow, data, f"{kind}_{number}"))
                end_processes(machine.folder, _PATIENCE)  # the next batch is not to run beside the delivery of this
                if kind == "with":
                    _check(uri, f"{kind}_{number}")
    print(f"`pf run create`, {LINES} lines of {LATENCY} s, to an `mlflow server`:\n\n{_report(times)}")


def _batch(machine: Machine, flow: Path, data: Path, name: str) -> float:
    words = ["--flow", str(flow), "--data", str(data), "--column-mapping", "topic=${data.topic}", "--name", name]
    started = time.monotonic()
    machine.pf("run", "create", *words)
    taken = time.monotonic() - started
    print(f"{name}: {taken:.1f} s", file=sys.stderr, flush=True)
    return taken


def _check(uri: str, name: str) -> None:
    found = len(tracked(uri, name).children)
    if found != LINES:
        raise SystemExit(f"{name}: {found} child runs of {LINES}")


def _report(times: dict[str, list[float]]) -> str:
    rows = [
        [f"{kind} the nodes", ", ".join(f"{one:.1f}" for one in taken), f"{statistics.median(taken):.1f}"]
        for kind, taken in times.items()
    ]
    ratio = statistics.median(times["with"]) / statistics.median(times["without"])
    return f"{table(['flow', 'times, s', 'median, s'], rows)}\n\nRatio of the medians: {ratio:.3f}"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
