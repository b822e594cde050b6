"""One batch of one way, measured."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from machine import Machine

from benchmarks import light_llm
from benchmarks.stores import Store
from benchmarks.watch import Taken, watched
from benchmarks.ways import Way

__all__ = ["Case", "Measured", "measure", "topics"]


@dataclass(frozen=True)
class Case:
    """What all ways are compared on."""

    lines: int
    latency: float

    def __str__(self) -> str:
        return f"{self.lines:,} lines, {self.latency:g} s"


@dataclass(frozen=True)
class Measured:
    """What a batch took, in seconds since its command was typed, and in bytes and requests."""

    delivered: float
    """Until the command had ended and everything was in MLflow."""
    last_result: float
    first_request: float
    cpu: float
    server_cpu: float
    peak: int
    requests: int
    finished: int
    most_at_once: int
    kept_per_line: float
    """Bytes by which the processes grew for each line after the first fifth of them."""


def measure(machine: Machine, llm: str, way: Way, store: Store, case: Case, batch: str) -> Measured:
    """Run a batch and read back what MLflow has of it."""
    uri = store.uri_for(batch)
    data = machine.data(f"{case.lines}_{case.latency:g}", topics(case))
    log = machine.folder / f"{batch}.log"
    env = {**machine.env, "MLFLOW_TRACKING_URI": uri, **way.prepare(uri, batch)}
    requests, server_cpu = store.requests(), store.cpu()
    delivered_at_end = []

    def at_end() -> None:
        if way.delivers_itself:
            delivered_at_end.append(way.finished(uri, batch) == case.lines)

    light_llm.forget(llm)
    words = way.words(data, batch)
    words[0] = str(Path(sys.executable).parent / words[0])  # an absolute path stays
    taken = watched(words, machine.cwd, env, log, at_end)
    _check(taken, log)
    asked = light_llm.told(llm)
    if delivered_at_end == [False]:
        print(f"{batch}: delivery went on for {taken.all_ended - taken.ended:.1f} s", file=sys.stderr, flush=True)
    over = taken.ended if delivered_at_end == [True] or not way.logs else taken.all_ended
    return Measured(
        delivered=over - taken.started,
        last_result=_last_result(machine, batch) - taken.started,
        first_request=asked.asked[0] - taken.started,
        cpu=taken.cpu,
        server_cpu=store.cpu() - server_cpu,
        peak=taken.peak,
        requests=store.requests() - requests,
        finished=way.finished(uri, batch),
        most_at_once=asked.most_in_work,
        kept_per_line=_kept_per_line(taken, asked.asked),
    )


def topics(case: Case) -> list[dict[str, str]]:
    """Return the lines, which tell the model how long to take."""
    directive = f"[[latency={case.latency}]] " if case.latency else ""
    return [{"topic": f"{directive}topic {number}"} for number in range(case.lines)]


def _check(taken: Taken, log: Path) -> None:
    if taken.code:
        raise SystemExit(f"ended with {taken.code}: {log.read_text('utf-8')[-3000:]}")


def _last_result(machine: Machine, batch: str) -> float:
    """Return when promptflow wrote the last line's result into the batch's folder."""
    folder = machine.folder / "promptflow" / ".runs" / batch / "flow_artifacts"
    return max(path.stat().st_mtime for path in folder.iterdir())


def _kept_per_line(taken: Taken, asked: list[float]) -> float:
    early = len(asked) // 5
    grown = taken.resident_at(asked[-1]) - taken.resident_at(asked[early])
    return grown / (len(asked) - early)
