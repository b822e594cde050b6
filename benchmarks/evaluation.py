"""What `pf-mlflow evaluate` costs: `python -m benchmarks.evaluation [LINES]`, about two minutes with its 1,000 lines.

A batch is answered by a model that answers at once, then scored by all heuristics, as is a tenth of it: the difference
of the two is what lines cost, without the start.
"""

from __future__ import annotations

import sys
from pathlib import Path

from machine import BIN, ROOT, Machine, tracked

from benchmarks.parts import own_folder, serving
from benchmarks.report import measured_on, table
from benchmarks.stores import SERVER, SQLITE, Store, stores
from benchmarks.watch import Taken, watched

_HEAD = ("store", "lines", "scored, s", "a line, ms", "CPU, s", "peak memory, MiB", "requests a line", "lines scored")


def main(*words: str) -> None:
    """Print the table."""
    lines = int(words[0]) if words else 1_000
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("light-llm") as llm, stores(folder / "stores", True) as by_kind:
        machine = Machine(folder / "machine", env={"MLFLOW_EXPERIMENT_NAME": "benchmark"})
        machine.connect(llm)
        rows = [row for kind in (SQLITE, SERVER) for row in _rows(machine, by_kind[kind], lines)]
    print(table(_HEAD, rows))


def _rows(machine: Machine, store: Store, lines: int) -> list[list[object]]:
    few, many = (_scored(machine, store, number) for number in (lines // 10, lines))
    a_line = (many.seconds - few.seconds) / (lines - lines // 10) * 1000
    return [few.row(store, ""), many.row(store, f"{a_line:.1f}")]


class _Scored:
    """An evaluation that is over."""

    def __init__(self, lines: int, taken: Taken, requests: int, evaluated: float) -> None:
        self.seconds = taken.ended - taken.started
        self._lines, self._taken, self._requests, self._evaluated = lines, taken, requests, evaluated

    def row(self, store: Store, a_line: str) -> list[object]:
        taken, requests = self._taken, self._requests
        figures = [f"{self.seconds:.1f}", a_line, f"{taken.cpu:.1f}", f"{taken.peak / 2**20:,.0f}"]
        each = f"{requests / self._lines:.2f}" if requests else ""
        return [store.kind, f"{self._lines:,}", *figures, each, f"{self._evaluated:,.0f}"]


def _scored(machine: Machine, store: Store, lines: int) -> _Scored:
    name = f"answers_{store.kind.split()[-1].lower()}_{lines}"
    rows = [
        {"question": f"question {n}", "context": "c", "ground_truth": f"a joke about {n % 7}"} for n in range(lines)
    ]
    uri = store.uri_for(name)
    env = {"MLFLOW_TRACKING_URI": uri}
    mapping = [
        word for column in ("question", "context") for word in ("--column-mapping", f"{column}=${{data.{column}}}")
    ]
    words = ["run", "--flow", str(ROOT / "examples" / "qa"), "--data", str(machine.data(name, rows)), "--name", name]
    done = machine.command("pf-mlflow", *words, *mapping, "--concurrency", "64", **env)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    requests = store.requests()
    words = [str(BIN / "pf-mlflow"), "evaluate", name, "--name", f"scores_of_{name}"]
    log: Path = machine.folder / f"{name}.log"
    taken = watched(words, machine.cwd, {**machine.env, **env}, log, lambda: None)
    if taken.code:
        raise SystemExit(log.read_text("utf-8")[-3000:])
    told = tracked(uri, name).parent.data.metrics
    return _Scored(lines, taken, store.requests() - requests, told["lines_evaluated"])


if __name__ == "__main__":
    main(*sys.argv[1:])
