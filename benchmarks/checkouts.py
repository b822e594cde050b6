"""What a change costs: this checkout and another by turns; `python -m benchmarks.checkouts OTHER`.

Both run the same lines with `pf-mlflow run`; OTHER is a checkout of the code before, with its own `.venv`. Each figure
is the median of `--times` batches; a ratio is the median of the ratios of each pair, which a machine that grows slower
or faster leaves alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from machine import ROOT, Machine

from benchmarks.batch import Case, Measured, measure
from benchmarks.parts import own_folder, serving
from benchmarks.report import measured_on, table
from benchmarks.run import LONG_AT_ONCE
from benchmarks.stores import SERVER, SQLITE, Store, stores
from benchmarks.ways import Run

_HEAD = ("store", "figure", "before", "after", "ratio of pairs: median", "lowest", "highest")


def main(*words: str) -> None:
    """Print a table for each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="the checkout of the code before, with its .venv")
    parser.add_argument("--lines", type=int, default=1_000)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds at the model; default: 0.5")
    parser.add_argument("--times", type=int, default=5, help="pairs; default: 5")
    parser.add_argument("--store", nargs="*", default=[SQLITE, SERVER], choices=[SQLITE, SERVER])
    asked = parser.parse_args(words)
    case = Case(asked.lines, asked.latency)
    ways = [_way(asked.other.resolve()), _way(ROOT)]
    print(f"Measured {measured_on()}\n\n{case} at the model, {LONG_AT_ONCE} at once, {asked.times} pairs:\n")
    with (
        own_folder() as folder,
        serving("light-llm") as llm,
        stores(folder / "stores", SERVER in asked.store) as by_kind,
    ):
        machine = Machine(folder / "machine", env={"MLFLOW_EXPERIMENT_NAME": "benchmark"})
        machine.connect(llm)
        rows: list[list[str]] = []
        for kind in asked.store:
            pairs = [_pair(machine, llm, ways, by_kind[kind], case, number) for number in range(asked.times)]
            rows += _rows(kind, pairs, case)
        print(table(_HEAD, rows))


def _way(checkout: Path) -> Run:
    command = (str(checkout / ".venv" / "bin" / "pf-mlflow"), "run", "--concurrency", str(LONG_AT_ONCE))
    return Run(checkout.name, command, checkout)


def _pair(machine: Machine, llm: str, ways: Sequence[Run], store: Store, case: Case, number: int) -> list[Measured]:
    turns = [0, 1] if number % 2 == 0 else [1, 0]
    measured = {
        turn: measure(machine, llm, ways[turn], store, case, f"{store.kind[:6]}_{number}_{turn}") for turn in turns
    }
    for turn, one in measured.items():
        print(f"{store.kind}, pair {number}, {('before', 'after')[turn]}: {one}", file=sys.stderr, flush=True)
    return [measured[0], measured[1]]


def _rows(kind: str, pairs: Sequence[Sequence[Measured]], case: Case) -> list[list[str]]:
    figures = {
        "CPU a line, ms": lambda one: 1000 * one.cpu / case.lines,
        "delivered, s": lambda one: one.delivered,
        "last result, s": lambda one: one.last_result,
        "first request, s": lambda one: one.first_request,
        "last result to delivered, s": lambda one: one.delivered - one.last_result,
        "peak memory, MiB": lambda one: one.peak / 2**20,
    }
    rows = []
    for name, of in figures.items():
        before, after = ([of(pair[side]) for pair in pairs] for side in (0, 1))
        ratios = [its / was for was, its in zip(before, after, strict=True)]
        medians = (f"{statistics.median(before):.1f}", f"{statistics.median(after):.1f}")
        rows.append(
            [kind, name, *medians, *(f"{one:.3f}" for one in (statistics.median(ratios), min(ratios), max(ratios)))]
        )
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
