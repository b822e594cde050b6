"""The table of a batch: one row a line with everything that its run shows, as `mlflow.load_table` reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pf_mlflow.projection.cost import COSTS
from pf_mlflow.projection.line_payload import is_model_setting
from pf_mlflow.projection.score_payload import EVALUATION, EXPECTED, score_keys
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.run_payload import PARAM_LIMIT

if TYPE_CHECKING:
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["LINES", "RESULTS", "ResultsTable"]

RESULTS = "eval_results_table.json"
"""Name of the artifact of a batch with scores, as that of MLflow's own evaluation."""
LINES = "results_table.json"
"""Name of the artifact of any batch."""
_ERROR = "promptflow.error"
_DATA = "data_"
"""Beginning of the names of columns that the data have and no input takes."""
_ORDER = (
    "line_number",
    "output",
    "question",
    EXPECTED,
    "score",
    "status",
    "error",
    "duration",
    "tokens",
    "cost",
    "input_",
    "data_",
)
"""What comes first: MLflow's comparison groups by the first column and compares the second."""

log = logging.getLogger(__name__)


class ResultsTable:
    """A table that grows run by run in a temporary folder, which goes with it; rows are in the order of their lines."""

    def __enter__(self) -> ResultsTable:
        self._files = ExitStack()
        self._is_broken = False
        with self._alone():
            self._folder = Path(self._files.enter_context(TemporaryDirectory(prefix="pf-mlflow-")))
            self._rows = self._files.enter_context((self._folder / "rows.jsonl").open("w+", encoding="utf-8"))
        self._clear()
        return self

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nothing else end where the temporary folder has no room: there is no table then."""
        try:
            yield
        except OSError as error:
            log.warning("there is no room for a table of the lines: %s", error)
            self._is_broken = True

    def _clear(self) -> None:
        self._columns: dict[str, None] = {}
        self._scores: set[str] = set()
        self._places: list[tuple[int, int]] = []
        self._data_columns: dict[str, None] = {}
        self._data_places: dict[int, int] = {}
        with self._alone():
            if not self._is_broken:
                self._rows.seek(0)
                self._rows.truncate()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._alone():
            self._files.close()

    def filled(self, runs: Iterable[KnownRun]) -> Iterator[KnownRun]:
        """Take up the runs of lines while they pass by, and nothing else."""
        self._clear()
        for run in runs:
            if run.line_number is not None:
                self._scores.update(score_keys(run.values))
                self._add(run.line_number, _row(run))
            yield run

    def _add(self, line_number: int, row: dict[str, Any]) -> None:
        self._columns |= dict.fromkeys(row)
        if (place := self._keep(row)) is not None:
            self._places.append((line_number, place))

    def _keep(self, row: dict[str, Any]) -> int | None:
        """Return where a row is kept, `None` if there is no room."""
        if self._is_broken:
            return None
        with self._alone():
            place = self._rows.tell()
            self._rows.write(json.dumps(row, default=str) + "\n")
            return place
        return None

    def add_data(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Add what the data have of lines, by line number, besides their inputs."""
        for number, row in rows:
            named = {f"{_DATA}{name}": _shortened(value) for name, value in row.items()}
            self._data_columns |= dict.fromkeys(named)
            if (place := self._keep(named)) is not None:
                self._data_places[number] = place

    def _read(self, place: int | None) -> dict[str, Any]:
        if place is None:
            return {}
        self._rows.seek(place)
        return dict(json.loads(self._rows.readline()))

    @property
    def columns(self) -> list[str]:
        """What its lines show, in order."""
        inputs = [key for key in self._columns if _is_input(key)]
        question = "input_question" if "input_question" in inputs else next(iter(inputs), None)
        columns = self._columns | self._data_columns
        return sorted(columns, key=lambda key: self._place("question" if key == question else key))

    def log_to(self, projection: StoreWriter, run_id: str, name: str = RESULTS) -> None:
        """Write it as an artifact of a run, if that can be: artifacts may need rights and packages that runs do not."""
        if self._is_broken:
            return
        try:
            projection.log_table(run_id, self.as_file(name), is_scored=name == RESULTS)
        except Exception as error:  # noqa: BLE001 - whatever the store's own client raises; the runs have all of it
            log.warning("run %s has no %s: %s", run_id, name, error)

    def as_file(self, name: str = RESULTS) -> Path:
        """Return the table as a file of that name in pandas' `split` orientation."""
        path, columns = self._folder / name, self.columns
        with path.open("w", encoding="utf-8") as table:
            table.write(f'{{"columns": {json.dumps(_without_dots(columns))}, "data": [')
            for number, (line_number, place) in enumerate(sorted(self._places)):
                row = self._read(self._data_places.get(line_number)) | self._read(place)
                table.write((",\n" if number else "\n") + json.dumps([row.get(name) for name in columns]))
            table.write("\n]}\n")
        return path

    def _place(self, key: str) -> int:
        """Return where a column stands; alike ones stay in the order in which they came."""
        kind = key
        if key in self._scores and key != EXPECTED:
            kind = "score"
        elif _is_input(key):
            kind = "input_"
        elif key in self._data_columns:
            kind = _DATA
        elif key == _ERROR:
            kind = "error"
        elif key.endswith("_tokens") and "." not in key:
            kind = "tokens"
        elif key in COSTS:
            kind = "cost"
        return _ORDER.index(kind) if kind in _ORDER else len(_ORDER) + (key == "run_id")


def _shortened(value: Any) -> Any:
    if isinstance(value, float) and value != value:  # pandas' word for nothing
        return None
    if not isinstance(value, str) or len(value) <= PARAM_LIMIT:
        return value
    mark = f" … [cut: {len(value)} characters, all of them in the data]"
    return value[: PARAM_LIMIT - len(mark)] + mark


def _is_input(key: str) -> bool:
    return key.startswith("input_") and not is_model_setting(key.removeprefix("input_"))


def _without_dots(names: Iterable[str]) -> list[str]:
    """Return names of columns, which MLflow's page shows empty if there is a dot in them; each stays one of its own."""
    free: dict[str, str] = dict.fromkeys(names, "")
    for name in free:
        plain = name.replace(".", "_")
        while plain != name and (plain in free or plain in free.values()):
            plain += "_"
        free[name] = plain
    return list(free.values())


def _row(run: KnownRun) -> dict[str, Any]:
    values = run.values
    numbers = {key: value for key, value in values.metrics.items() if value == value}
    texts = {key: values.tags[key] for key in sorted((score_keys(values) | {_ERROR, EVALUATION}) & values.tags.keys())}
    params = {key: value for key, value in values.params.items() if key != "run_display_name"}
    return {"line_number": run.line_number, "status": values.status, "run_id": run.run_id, **params, **numbers, **texts}
