"""200 lines by 16 workers on each kind of store, by fork and by spawn: `python -m benchmarks.exactness [RUNS]`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fake_llm import FakeLlm
from machine import ROOT, Machine, tracked
from servers import mlflow_server, postgres

from benchmarks.report import measured_on, table

LINES = 200
WORKERS = 16


def main(runs: int = 5) -> None:
    """Print how many runs of each kind were exact."""
    print(f"Measured {measured_on()}\n")
    with _parts() as (machine, stores):
        data = machine.data("topics", [{"topic": f"topic {number}"} for number in range(LINES)])
        rows = [
            [store, method, *_exact(machine, uri, f"{store}_{method}".replace(" ", "_"), data, method, runs)]
            for store, uri in stores.items()
            for method in ("fork", "spawn")
        ]
    print(
        table(["store", "start method", f"exact, of {runs}", "until the parent had ended after `pf`, s (worst)"], rows)
    )


@contextmanager
def _parts() -> Iterator[tuple[Machine, dict[str, str]]]:
    folder = Path(tempfile.mkdtemp(prefix="benchmark"))
    with ExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        llm = FakeLlm()
        parts.callback(llm.close)
        machine = Machine(folder / "machine")
        machine.connect(llm.base_url)
        (folder / "server").mkdir()
        (folder / "pg").mkdir()
        server = parts.enter_context(mlflow_server(f"sqlite:///{folder / 'server.db'}", folder / "server"))
        database = parts.enter_context(postgres())
        behind = parts.enter_context(mlflow_server(database, folder / "pg"))
        stores = {
            "SQLite file": f"sqlite:///{machine.cwd / 'mlflow.db'}",
            "mlflow server": server,
            "mlflow server on PostgreSQL": behind,
        }
        yield machine, stores


def _exact(machine: Machine, uri: str, name: str, data: Path, method: str, runs: int) -> tuple[int, str]:
    exact, waits = 0, []
    for number in range(runs):
        batch = f"{name}_{number}"
        words = ["--flow", str(ROOT), "--data", str(data), "--column-mapping", "topic=${data.topic}", "--name", batch]
        env = {"MLFLOW_TRACKING_URI": uri, "PF_BATCH_METHOD": method, "PF_WORKER_COUNT": str(WORKERS)}
        machine.pf("run", "create", *words, **env)
        ended = time.monotonic()
        found = tracked(uri, batch, patience=120)
        waits.append(time.monotonic() - ended)
        topics = found.column("params", "input_topic")
        all_finished = all(child.info.status == "FINISHED" for child in found.children.values())
        exact += topics == [f"topic {n}" for n in range(LINES)] and all_finished
        print(f"{batch}: {len(found.children)} children, {waits[-1]:.1f} s", file=sys.stderr, flush=True)
    return exact, f"{max(waits):.1f}"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
