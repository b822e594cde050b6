"""Other programs that ask a model about many lines, beside `pf-mlflow run`: `python -m benchmarks.peers --help`.

All get the same prompts, the same model and 64 lines at once; measured is the whole process. promptfoo and Inspect AI
keep their results in files of their own, `mlflow.genai.evaluate` as traces in an SQLite file. The latter gets a pool of
two connections a thread; `--stalling` measures it with MLflow's own pool too, where its threads wait for one another
for minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from machine import Machine

from benchmarks import light_llm
from benchmarks.batch import Case, topics
from benchmarks.parts import own_folder, serving
from benchmarks.peer_commands import OURS, PEERS, STALLING, Lines, Peer
from benchmarks.peer_installs import NotInstalled
from benchmarks.report import measured_on, table
from benchmarks.stores import SQLITE, stores
from benchmarks.watch import watched

LINES, QUICK, LATENCY = 1_000, 200, 0.5
_NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
}
_HEAD = (
    *("program", "wall, s", "`pf-mlflow run` / this", "lines/s", "first request, s", "CPU, s"),
    *("peak memory, MiB", "requests", "most at once"),
)


@dataclass(frozen=True)
class Call:
    """What one call of a program took."""

    seconds: float
    first_request: float
    cpu: float
    peak: float
    requests: int
    most_at_once: int


@dataclass
class Row:
    """A program and its calls, or why there are none."""

    peer: Peer
    version: str = ""
    calls: list[Call] = field(default_factory=list)
    trouble: str = ""

    def median(self, figure: str) -> float:
        """Return the median of a figure of the calls."""
        values: list[float] = [getattr(call, figure) for call in self.calls]
        return statistics.median(values)


def main(*words: str) -> None:
    """Print the table."""
    asked = _asked(words)
    case = Case(asked.lines, LATENCY)
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("light-llm") as llm, stores(folder / "stores", False) as by_kind:
        machine = Machine(folder / "machine", env=_NO_TELEMETRY)
        machine.env.pop("PYTHONPATH", None)  # other environments are not to see this one's packages
        machine.connect(llm)
        rows = topics(case)
        told = [row["topic"] for row in rows]
        lines = Lines(llm, machine.data("lines", rows), told, machine.folder, by_kind[SQLITE])
        peers = [*PEERS, STALLING] if asked.stalling else PEERS
        measured = _measure(machine, lines, [peer for peer in peers if _named(peer, asked.only)], asked.times)
    print(f"{case} at the model, 64 at once:\n\n{_table(measured, asked.lines)}")


def _asked(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Other programs beside `pf-mlflow run`, on the same lines.")
    parser.add_argument(
        "--quick", dest="lines", action="store_const", const=QUICK, default=LINES, help=f"{QUICK} lines"
    )
    parser.add_argument("--lines", type=int, default=LINES, help=f"default: {LINES:,}")
    parser.add_argument("--times", type=int, default=1, help="how often each; default: 1")
    parser.add_argument("--only", default="", help="words, separated by commas, of which a program's name has one")
    parser.add_argument("--stalling", action="store_true", help="`mlflow.genai.evaluate` with MLflow's own pool too")
    return parser.parse_args(words)


def _named(peer: Peer, words: str) -> bool:
    return peer is OURS or any(word in peer.name for word in words.split(","))


def _measure(machine: Machine, lines: Lines, peers: Sequence[Peer], times: int) -> list[Row]:
    rows = [Row(peer) for peer in peers]
    for number in range(times):
        for row in rows:
            _call(machine, lines, row, f"call_{number}_{rows.index(row)}")
    return rows


def _call(machine: Machine, lines: Lines, row: Row, call: str) -> None:
    try:
        command = row.peer.command(lines, call)
    except NotInstalled as error:
        row.trouble = str(error)
        return
    row.version = command.version
    log = machine.folder / f"{call}.log"
    light_llm.forget(lines.llm)
    taken = watched(command.words, machine.cwd, {**machine.env, **command.env}, log)
    if taken.code:
        row.trouble = f"It ended with {taken.code}: {log.read_text('utf-8').strip()[-500:]}"
        return
    told = light_llm.told(lines.llm)
    first = told.asked[0] - taken.started if told.asked else float("nan")
    times = taken.ended - taken.started, first, taken.cpu
    row.calls.append(Call(*times, taken.peak, len(told.asked), told.most_in_work))
    print(f"{row.peer.name}: {row.calls[-1]}", file=sys.stderr, flush=True)


def _table(rows: Sequence[Row], lines: int) -> str:
    ours = next(row for row in rows if row.peer is OURS)
    return table(_HEAD, [_cells(row, ours, lines) for row in rows])


def _cells(row: Row, ours: Row, lines: int) -> list[str]:
    name = f"{row.peer.name} ({row.version})" if row.version else row.peer.name
    if not row.calls:
        return [name, " ".join(row.trouble.split()), *[""] * (len(_HEAD) - 2)]
    seconds = row.median("seconds")
    return [
        name,
        f"{seconds:.1f}",
        f"{ours.median('seconds') / seconds:.3f}" if ours.calls else "",
        f"{lines / seconds:.1f}",
        f"{row.median('first_request'):.1f}",
        f"{row.median('cpu'):.1f}",
        f"{row.median('peak') / 2**20:,.0f}",
        f"{row.median('requests'):,.0f}",
        f"{row.median('most_at_once'):.0f}",
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
