"""How soon a line shows as RUNNING, and its batch as over: `python -m benchmarks.visibility`, about a minute."""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fake_llm import FakeLlm
from machine import ROOT, Machine, runs_of, tracked
from servers import mlflow_server

from benchmarks.report import measured_on, table

WORKERS = 4
WAVES = 5
LATENCY = 3.0


def main() -> None:
    """Print the table for an `mlflow server`."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark"))
    llm = FakeLlm()
    llm.latency = LATENCY
    machine = Machine(folder / "machine")
    machine.connect(llm.base_url)
    with mlflow_server(f"sqlite:///{folder / 'server.db'}", folder) as uri:
        print(f"Measured {measured_on()}\n")
        print(_measure(machine, uri))
    llm.close()
    shutil.rmtree(folder, ignore_errors=True)


def _measure(machine: Machine, uri: str) -> str:
    data = machine.data("lines", [{"topic": f"topic {number}"} for number in range(WORKERS * WAVES)])
    words = ["--flow", str(ROOT), "--data", str(data), "--column-mapping", "topic=${data.topic}", "--name", "seen"]
    with ThreadPoolExecutor(1) as pool:
        env = {"MLFLOW_TRACKING_URI": uri, "PF_WORKER_COUNT": str(WORKERS)}
        batch = pool.submit(machine.pf, "run", "create", *words, **env)
        seen: dict[str, float] = {}
        while not batch.done():
            for run in runs_of(uri, "seen"):
                if run.info.status == "RUNNING":
                    seen.setdefault(run.info.run_name, time.time() - run.info.start_time / 1000)
            time.sleep(0.05)
        batch.result()
    returned = time.monotonic()
    tracked(uri, "seen")
    over = time.monotonic() - returned
    lines = sorted(f"Run {number:09}" for number in range(WORKERS * WAVES))
    first = [seen[name] for name in lines[:WORKERS] if name in seen]
    later = sorted(seen[name] for name in lines[WORKERS:] if name in seen)
    rows = [
        [
            f"first {WORKERS} lines, delivery starting",
            f"{len(first)}",
            f"{max(first):.2f}" if first else "not before the end",
        ],
        [f"{WORKERS * (WAVES - 1)} later lines, delivery up", f"{len(later)}", f"{max(later):.2f}"],
        ["parent over after `pf` had returned", "1", f"{over:.2f}"],
    ]
    return table(["what", "seen", "latest, s"], rows)


if __name__ == "__main__":
    main()
