"""What it costs to see that promptflow's last word changes nothing: `python -m benchmarks.reconcile [LINES]`.

The records of a finished batch of 10,000 lines, made of one that really ran, wait in a spool as if its lines had just
ended; its flow's output is its LLM node's, which is what is compared. They are delivered to an SQLite file, which ends
with reconciling; then the same batch is synced once more. The ratio is of the time in which lines are compared to all
that the delivery took. About two minutes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

from machine import Machine

from benchmarks.big_batch import big_batch, template_batch
from benchmarks.parts import own_folder, serving
from benchmarks.report import measured_on, table
from pf_mlflow.delivery.deliver import DeliveryObserver, Policy, deliver_once
from pf_mlflow.delivery.retry_policy import Deadline
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.records.line import LineRecord
from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.local_batch import local_batch
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import run_record
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.reader import StoreReader

LINES = 10_000
BATCH = "big"


class Watch:
    """Takes the time of comparing, and counts what was asked of the store meanwhile and about single lines."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.doubtful = self.asked = 0
        in_doubt, run = BatchWriter.in_doubt, StoreReader.run

        @wraps(in_doubt)
        def timed(writer: BatchWriter, decided: Iterable[LineRecord]) -> set[int]:
            began = time.perf_counter()
            doubtful = in_doubt(writer, decided)
            self.seconds += time.perf_counter() - began
            self.doubtful += len(doubtful)
            return doubtful

        @wraps(run)
        def counted(store: StoreReader, run_id: str) -> Any:
            self.asked += 1
            return run(store, run_id)

        BatchWriter.in_doubt, StoreReader.run = timed, counted  # type: ignore[method-assign, assignment]
        self._undo = lambda: (setattr(BatchWriter, "in_doubt", in_doubt), setattr(StoreReader, "run", run))

    def row(self, what: str, deliver: Callable[[], None]) -> list[Any]:
        """Deliver, and return the row of the table."""
        began = time.perf_counter()
        deliver()
        total = time.perf_counter() - began
        self._undo()
        return [what, f"{total:.1f}", f"{self.seconds:.2f}", f"{self.seconds / total:.3f}", self.doubtful, self.asked]


def main(lines: str = str(LINES)) -> None:
    """Print the table."""
    print(f"Measured {measured_on()}\n")
    with own_folder() as folder, serving("llm") as llm:
        machine = Machine(folder / "machine")
        machine.connect(llm)
        template_batch(machine)
        flow = big_batch(machine, BATCH, int(lines)) / "snapshot" / "flow.dag.yaml"
        flow.write_text(flow.read_text("utf-8").replace("${finalize.output.result}", "${joke.output}"), "utf-8")
        os.environ.update(machine.env)
        rows = _measure(folder)
    print(f"Reconciling {int(lines):,} lines in which nothing differs:\n")
    print(table(["how", "delivered in, s", "of it comparing, s", "ratio", "lines in doubt", "runs asked for"], rows))


def _measure(folder: Path) -> list[list[Any]]:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    settings = read_settings().model_copy(update={"tracking_uri": uri})
    home = promptflow_home()
    record = run_record(home, BATCH)
    batch = local_batch(home, BATCH, record, settings)
    spool = Spool(folder / "spool")
    spool.add_batch(batch)
    for line in LocalSource(batch).lines():
        spool.complete_line(batch.uid, line.line_number, line.start, line.to_json())

    def deliver() -> None:
        done = deliver_once(spool, LocalSource(batch), uri, nullcontext(), Policy(Deadline(60.0)), DeliveryObserver())
        if not done.is_closed:
            raise SystemExit(done.trouble)

    return [Watch().row(what, deliver) for what in ("lines that just ended", "synced once more")]


if __name__ == "__main__":
    main(*sys.argv[1:])
