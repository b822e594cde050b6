"""What tracking costs a line in time, with MLflow up, down and slow: `python -m benchmarks.overhead`, ten minutes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from machine import ROOT, Machine, runs_of
from servers import free_port

from benchmarks.measured_process import NODE_CALLS, PROCESSOR_CALLS
from benchmarks.parts import end_processes, own_folder, server, serving
from benchmarks.report import measured_on, table

LINES = {"0": 500, "0.2": 100}
"""How many lines are timed at which latency of the model, in seconds."""
SETTLING = 10
"""Lines at the start that the percentiles leave out: the first starts the delivery process."""
SLOW = "10"
"""Seconds that the slow MLflow takes to answer."""


def main(*only: str) -> None:
    """Print the tables; `only` are words that the conditions to measure contain."""
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("llm") as llm, _conditions(folder) as conditions:
        chosen = {name: uri for name, uri in conditions.items() if not only or any(word in name for word in only)}
        measured = [
            (name, latency, _measure(folder, name, uri, llm, latency))
            for name, uri in chosen.items()
            for latency in LINES
        ]
    print(f"Time inside our nodes and span processor per line:\n\n{_times(measured)}\n")
    print(f"The same by call, p50 / p99, ms:\n\n{_calls(measured)}")


@contextmanager
def _conditions(folder: Path) -> Iterator[dict[str, str]]:
    """Yield tracking URIs: an MLflow that is up, one that is not there, and one that answers late."""
    with ExitStack() as parts:
        up = parts.enter_context(server(folder / "server"))
        slow = parts.enter_context(serving("slow", up, SLOW))
        yield {
            "up, SQLite file": f"sqlite:///{folder / 'mlflow.db'}",
            "up, mlflow server": up,
            "down": f"http://127.0.0.1:{free_port()}",
            f"answers in {SLOW} s": slow,
        }


def _measure(folder: Path, condition: str, uri: str, llm: str, latency: str) -> dict[str, Any]:
    """Measure on a machine of its own; then wait for the delivery process, which goes on after its client."""
    machine = Machine(folder / f"{condition} {latency}", env={"MLFLOW_TRACKING_URI": uri})
    env = {"PF_DISABLE_TRACING": "false", "PF_MLFLOW_GIVE_UP_AFTER": "1", "MLFLOW_EXPERIMENT_NAME": condition}
    words = [llm, latency, str(LINES[latency])]
    done = machine.command(sys.executable, "-m", "benchmarks.measured_process", *words, cwd=ROOT, **env)
    if done.returncode:
        raise SystemExit(done.stderr)
    up = condition.startswith("up")
    end_processes(machine.folder, patience=60 if up else 0)
    if up and (found := len(runs_of(uri, f"overhead_{latency}"))) < LINES[latency]:
        print(f"{condition}, {latency} s: MLflow has {found} runs", file=sys.stderr)
    print(f"{condition}, {latency} s: measured", file=sys.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _times(measured: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    rows = []
    for condition, latency, told in measured:
        settled = sorted(told["wall"][SETTLING:])
        percentiles = [_at(settled, share) for share in (0.5, 0.9, 0.99)]
        size = f"{told['record_bytes']:,.0f}"
        cpu = _both(told["cpu"], 2)
        rows.append([condition, f"{latency} s", len(settled), size, *percentiles, f"{told['wall'][0]:.0f}", cpu])
    times = ["p50, ms", "p90, ms", "p99, ms", "first line, ms", "CPU p50 / p99, ms"]
    return table(["MLflow", "LLM", "lines", "record, bytes", *times], rows)


def _calls(measured: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    names = (*NODE_CALLS, *PROCESSOR_CALLS)
    rows = [
        [condition, f"{latency} s", *(_both(told["calls"][name], 3) for name in names)]
        for condition, latency, told in measured
    ]
    return table(["MLflow", "LLM", *names], rows)


def _both(values: Sequence[float], digits: int) -> str:
    settled = sorted(values[SETTLING:])
    return f"{_at(settled, 0.5, digits)} / {_at(settled, 0.99, digits)}"


def _at(ordered: Sequence[float], share: float, digits: int = 2) -> str:
    return f"{ordered[int(share * (len(ordered) - 1))]:.{digits}f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
