"""How fast `pf-mlflow sync` is: `python -m benchmarks.sync [--quick] [STORE]`, about 25 minutes, or 5 with `--quick`.

A finished batch of 10,000 lines (1,000 with `--quick`) goes into an empty store, and a bare loop writes the same child
runs into another one with as many threads. The two work by turns of five seconds while the other is stopped. The pace
counts from the moment the store shows the first child run to the moment it shows the last one ended, both read from
the store's own file four times a second: neither start-up nor closing are in it. The times of the first and the second
`sync` are those of the whole command.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import BIN, ROOT, Machine, runs_of

from benchmarks.bare_loop import contents_of
from benchmarks.big_batch import TEMPLATE, big_batch, template_batch
from benchmarks.by_turns import Turned, run_by_turns
from benchmarks.parts import own_folder, server, serving
from benchmarks.report import measured_on, table

LINES, QUICK = 10_000, 1_000
BATCH = "big"
SYNC = (str(BIN / "pf-mlflow"), "sync")
THREADS = {"SQLite file": 1, "mlflow server": 8}
"""Writers on each kind of store, as `StoreWriter.threads` has it."""


@dataclass(frozen=True)
class Store:
    """A tracking URI and the SQLite file behind it."""

    uri: str
    database: Path


def main(*words: str) -> None:
    """Print the tables."""
    lines = QUICK if "--quick" in words else LINES
    named = [word for word in words if not word.startswith("--")]
    stores = [kind for kind in THREADS if not named or any(word in kind for word in named)]
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("llm") as llm:
        machine = Machine(folder / "machine")
        machine.connect(llm)
        template_batch(machine)
        big_batch(machine, BATCH, lines)
        contents = _contents(machine, folder)
        rows = [_measure(machine, folder, kind, contents, lines) for kind in stores]
    print(f"`pf-mlflow sync` of a batch of {lines:,} lines:\n")
    paces = ["sync, lines/s", "bare loop, lines/s", "ratio"]
    repeated = ["first sync, s", "second, s", "ratio"]
    early = min(1_000, lines // 4)
    memory = [f"peak memory to line {early:,}, MiB", f"to line {lines:,}", "at its start"]
    print(table(["store", *paces, *repeated, *memory], rows))


def _contents(machine: Machine, folder: Path) -> Path:
    """Return a file with what `sync` writes for the template's lines."""
    uri = f"sqlite:///{folder / 'contents.db'}"
    done = machine.command(*SYNC, TEMPLATE, "--json", MLFLOW_TRACKING_URI=uri)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    children = [run for run in runs_of(uri, TEMPLATE) if "mlflow.parentRunId" in run.data.tags]
    path = folder / "contents.json"
    path.write_text(json.dumps([contents_of(run) for run in children]), "utf-8")
    return path


def _measure(machine: Machine, folder: Path, kind: str, contents: Path, lines: int) -> list[Any]:
    with _two_stores(folder, kind) as (for_sync, for_loop):
        env = machine.env | {"PWD": str(machine.cwd), "PYTHONPATH": str(ROOT)}
        # The spool remembers which store a batch went to.
        ours = {"MLFLOW_TRACKING_URI": for_sync.uri, "PF_MLFLOW_SPOOL_DIR": str(folder / f"spool of {kind}")}
        sync = Turned([*SYNC, BATCH, "--json"], {"cwd": machine.cwd, "env": env | ours}, for_sync.database)
        loop = [sys.executable, "-m", "benchmarks.bare_loop", for_loop.uri, str(THREADS[kind]), str(lines)]
        bare = Turned([*loop, str(contents)], {"cwd": machine.cwd, "env": env}, for_loop.database)
        run_by_turns(sync, bare)
        _check(sync, bare, lines)
        print(f"{kind}: {sync.output}", file=sys.stderr, flush=True)
        started = time.monotonic()
        done = machine.command(*SYNC, BATCH, "--json", **ours)
        second = time.monotonic() - started
        print(f"{kind}, again: {done.stdout}{done.stderr}", file=sys.stderr, flush=True)
    paces = sync.lines_per_second(), bare.lines_per_second()
    memory = [sync.peak_memory(most) for most in (min(1_000, lines // 4), lines, 1)]
    return [
        kind,
        *(f"{pace:.1f}" for pace in paces),
        f"{paces[0] / paces[1]:.3f}",
        f"{sync.seconds:.1f}",
        f"{second:.1f}",
        f"{second / sync.seconds:.3f}",
        *(f"{most / 2**20:.0f}" for most in memory),
    ]


@contextmanager
def _two_stores(folder: Path, kind: str) -> Iterator[list[Store]]:
    if kind == "SQLite file":
        yield [Store(f"sqlite:///{folder / name}.db", folder / f"{name}.db") for name in ("sync", "bare")]
        return
    with ExitStack() as parts:
        folders = [folder / f"{name}_server" for name in ("sync", "bare")]
        yield [Store(parts.enter_context(server(one)), one / "server.db") for one in folders]


def _check(sync: Turned, bare: Turned, lines: int) -> None:
    for name, one in (("sync", sync), ("the bare loop", bare)):
        if (last := one.seen[-1]).ended != lines or last.made != lines:
            raise SystemExit(f"{name} made {last.made} child runs and ended {last.ended}, of {lines}: {one.output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
