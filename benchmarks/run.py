"""What a batch takes in each way to run it, nothing logged and all logged: `python -m benchmarks.run --help`.

The ways are run one after the other, `--times` times in turn; a figure is the median. Ratios are to the bare
`pf run create` of the same lines in the same run: `delivered` to when its command had ended, the last line's result and
the first request to the model each to the same of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import product

from machine import Machine

from benchmarks.batch import Case, Measured, measure
from benchmarks.parts import own_folder, serving
from benchmarks.report import measured_on, table
from benchmarks.stores import SERVER, SQLITE, Store, stores
from benchmarks.ways import BARE, Way, all_ways, run_at

LONG_BASE, LONG_AT_ONCE = 1_000, 64
_HEAD = (
    *("way", "store", "delivered, s", "ratio", "last result, s", "ratio", "first request, s", "ratio"),
    *("lines/s", "CPU, s", "server's CPU, s", "peak memory, MiB", "requests a line", "child runs"),
)


@dataclass(frozen=True)
class Row:
    """A way on a store, and what its batches took."""

    way: Way
    store: Store
    measured: list[Measured]

    def median(self) -> Measured:
        """Return the batches' medians, figure by figure."""
        values = {one.name: [getattr(batch, one.name) for batch in self.measured] for one in fields(Measured)}
        return Measured(**{name: statistics.median(each) for name, each in values.items()})


class Bench:
    """The machine, the model and the stores that all batches share."""

    def __init__(self, machine: Machine, llm: str, times: int) -> None:
        self._machine, self._llm, self._times = machine, llm, times
        self._batches = 0

    def rows(self, kinds: Sequence[tuple[Way, Store]], case: Case) -> list[Row]:
        """Run a batch of each way in turn, over and over."""
        rows = [Row(way, store, []) for way, store in kinds]
        for _, row in product(range(self._times), rows):
            row.measured.append(self._batch(row, case))
        return rows

    def _batch(self, row: Row, case: Case) -> Measured:
        self._batches += 1
        batch = f"batch_{self._batches:03}"
        measured = measure(self._machine, self._llm, row.way, row.store, case, batch)
        print(f"{case}: {row.way.name}, {row.store.kind}: {measured}", file=sys.stderr, flush=True)
        return measured


def main(*words: str) -> None:
    """Print the tables."""
    asked = _asked(words)
    print(f"Measured {measured_on()}\n")
    with (
        own_folder() as folder,
        serving("light-llm") as llm,
        stores(folder / "stores", SERVER in asked.store) as by_kind,
    ):
        machine = Machine(folder / "machine", env={"MLFLOW_EXPERIMENT_NAME": "benchmark"})
        machine.connect(llm)
        bench = Bench(machine, llm, asked.times)
        if asked.long:
            return print(_long(bench, by_kind[SQLITE], asked.long, asked.latency[-1]))
        kinds = _kinds(all_ways(folder / "flows"), [by_kind[kind] for kind in asked.store], asked.ways)
        for lines, latency in product(asked.lines, asked.latency):
            case = Case(lines, latency)
            print(f"{case} at the model:\n\n{_table(bench.rows(kinds, case), case)}\n", flush=True)


def _asked(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a batch takes in each way to run it.")
    parser.add_argument("--quick", action="store_true", help="200 lines of 0.5 s on SQLite, bare and 64 at once")
    parser.add_argument("--lines", type=_numbers(int), default=[200, 1_000], help="default: 200,1000")
    parser.add_argument("--latency", type=_numbers(float), default=[0.0, 0.5], help="seconds; default: 0,0.5")
    parser.add_argument("--store", type=_kind, default=[SQLITE, SERVER], help="sqlite or server; default: both")
    parser.add_argument("--ways", default="", help="words, separated by commas, of which a way's name has one")
    parser.add_argument("--times", type=int, default=1, help="how often each; default: 1")
    parser.add_argument("--long", type=int, nargs="?", const=10_000, metavar="LINES", help="`pf-mlflow run` alone")
    asked = parser.parse_args(words)
    if asked.quick:
        asked.lines, asked.latency, asked.store, asked.ways = [200], [0.5], [SQLITE], "64 at once"
    if asked.long:
        asked.store = [SQLITE]
    return asked


def _numbers(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    return lambda text: [kind(word) for word in text.split(",")]


def _kind(text: str) -> list[str]:
    if not (found := [kind for kind in (SQLITE, SERVER) if text.lower() in kind.lower()]):
        raise argparse.ArgumentTypeError(f"{text!r} is neither {SQLITE} nor {SERVER}")
    return found


def _kinds(ways: Sequence[Way], chosen: Sequence[Store], words: str) -> list[tuple[Way, Store]]:
    """Pair ways and stores; what logs nothing needs only one of them."""
    named = [way for way in ways if way.name == BARE or any(word in way.name for word in words.split(","))]
    return [(way, store) for way in named for store in (chosen if way.logs else chosen[:1])]


def _table(rows: Sequence[Row], case: Case) -> str:
    bare = next(row.median() for row in rows if row.way.name == BARE)
    return table(_HEAD, [_cells(row, bare, case) for row in rows])


def _cells(row: Row, bare: Measured, case: Case) -> list[str]:
    one, served = row.median(), row.way.logs and row.store.kind == SERVER
    times = [
        (one.delivered, bare.delivered),
        (one.last_result, bare.last_result),
        (one.first_request, bare.first_request),
    ]
    return [
        row.way.name,
        row.store.kind if row.way.logs else "",
        *(cell for own, its in times for cell in (f"{own:.1f}", f"{own / its:.3f}")),
        f"{case.lines / one.delivered:.1f}",
        f"{one.cpu:.1f}",
        f"{one.server_cpu:.1f}" if served else "",
        f"{one.peak / 2**20:,.0f}",
        f"{one.requests / case.lines:.2f}" if served else "",
        f"{one.finished:,.0f}" if row.way.logs else "",
    ]


def _long(bench: Bench, store: Store, lines: int, latency: float) -> str:
    """Compare a long batch with one of a thousand lines."""
    cases = [Case(min(LONG_BASE, lines // 2), latency), Case(lines, latency)]
    medians = [bench.rows([(run_at(LONG_AT_ONCE), store)], case)[0].median() for case in cases]
    base = medians[0].delivered / cases[0].lines
    rows = []
    for case, one in zip(cases, medians, strict=True):
        a_line = one.delivered / case.lines
        grown = f"{one.kept_per_line / 1024:.1f}"
        rest = [f"{one.cpu:.1f}", f"{one.peak / 2**20:,.0f}", grown, f"{one.finished:,.0f}"]
        rows.append([f"{case.lines:,}", f"{one.delivered:.1f}", f"{a_line * 1000:.1f}", f"{a_line / base:.3f}", *rest])
    times = ["lines", "delivered, s", "a line, ms", "ratio"]
    head = [*times, "CPU, s", "peak memory, MiB", "kept a line after the first fifth, KiB", "child runs"]
    return f"`pf-mlflow run`, {LONG_AT_ONCE} at once, lines of {latency:g} s, SQLite:\n\n{table(head, rows)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
