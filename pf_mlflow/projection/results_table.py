"""The table of an evaluation: one row a line with everything that its run shows, as `mlflow.load_table` reads it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pf_mlflow.projection.score_payload import EVALUATION, score_keys
from pf_mlflow.tracking.known_run import KnownRun

if TYPE_CHECKING:
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["RESULTS", "ResultsTable", "log_results"]

RESULTS = "eval_results_table.json"
"""Name of the artifact, as that of MLflow's own evaluation."""
_FIRST = ("line_number", "status", "run_id")
_ERROR = "promptflow.error"

log = logging.getLogger(__name__)


def log_results(projection: StoreWriter, batch_uid: str, run_id: str) -> None:
    """Write the table of a batch's lines as MLflow shows them, as an artifact of a run."""
    with ResultsTable() as table:
        for _ in table.filled(projection.runs(batch_uid)):
            pass
        table.log_to(projection, run_id)


class ResultsTable:
    """A table that grows run by run in a temporary folder, which goes with it; rows are in the order of their lines."""

    def __enter__(self) -> ResultsTable:
        self._folder = Path(mkdtemp(prefix="pf-mlflow-"))
        self._rows = (self._folder / "rows.jsonl").open("w+", encoding="utf-8")
        self._columns: dict[str, None] = dict.fromkeys(_FIRST)
        self._places: list[tuple[int, int]] = []
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rows.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def filled(self, runs: Iterable[KnownRun]) -> Iterator[KnownRun]:
        """Add the runs of lines while they pass by."""
        for run in runs:
            if run.line_number is not None:
                self._add(run.line_number, _row(run))
            yield run

    def _add(self, line_number: int, row: dict[str, Any]) -> None:
        self._places.append((line_number, self._rows.tell()))
        self._columns |= dict.fromkeys(row)
        self._rows.write(json.dumps(row) + "\n")

    def log_to(self, projection: StoreWriter, run_id: str) -> None:
        """Write it as an artifact of a run, if that can be: artifacts may need rights and packages that runs do not."""
        try:
            projection.log_table(run_id, self.as_file())
        except Exception as error:  # noqa: BLE001 - whatever the store's own client raises; the runs have all of it
            log.warning("run %s has no %s: %s", run_id, RESULTS, error)

    def as_file(self) -> Path:
        """Return the table as a file in pandas' `split` orientation."""
        path = self._folder / RESULTS
        with path.open("w", encoding="utf-8") as table:
            table.write(f'{{"columns": {json.dumps(list(self._columns))}, "data": [')
            for number, (_, place) in enumerate(sorted(self._places)):
                self._rows.seek(place)
                row = json.loads(self._rows.readline())
                table.write((",\n" if number else "\n") + json.dumps([row.get(name) for name in self._columns]))
            table.write("\n]}\n")
        return path


def _row(run: KnownRun) -> dict[str, Any]:
    values = run.values
    numbers = {key: value for key, value in values.metrics.items() if value == value}
    texts = {key: values.tags[key] for key in sorted((score_keys(values) | {_ERROR, EVALUATION}) & values.tags.keys())}
    params = {key: value for key, value in values.params.items() if key != "run_display_name"}
    return {"line_number": run.line_number, "status": values.status, "run_id": run.run_id, **params, **numbers, **texts}
