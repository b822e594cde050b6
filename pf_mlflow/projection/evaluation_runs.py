"""Writes an evaluation into MLflow: each line's scores onto the child run of the line, their sums onto the parent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pf_mlflow.errors import RequestRejected, TrackingForbidden, TrackingRefused
from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.cost import priced
from pf_mlflow.projection.existing_runs import ExistingRuns
from pf_mlflow.projection.results_table import ResultsTable
from pf_mlflow.projection.score_payload import (
    EVALUATION,
    EVALUATION_KEYS,
    EVALUATION_STARTED,
    EVALUATION_UID,
    cost_keys,
    evaluation_tags,
    key_tags,
    score_keys,
    score_payload,
    scores_of,
    with_earlier_costs,
)
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.projection.writer import Writer
from pf_mlflow.records.batch import command_on
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.score import Score
from pf_mlflow.records.source import Source
from pf_mlflow.scoring.sums import evaluated
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.run_payload import NOT_KEPT, RunPayload, milliseconds

if TYPE_CHECKING:  # which imports mlflow
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["ScoreWriter", "writer_of"]


def writer_of(store: StoreWriter, source: Source) -> Writer:
    """Return what writes a batch: into runs of its own, or, if it scores another one, into that one's."""
    return (ScoreWriter if source.batch.base_uid else BatchWriter)(store, source)


@dataclass(frozen=True)
class _Child:
    """The run of a line, and what an earlier evaluation left on it."""

    run_id: str
    stale_metrics: frozenset[str]
    stale_tags: frozenset[str]
    verdicts: tuple[Score, ...] = ()
    """Those of an earlier evaluation; costs are added to theirs."""
    costs: frozenset[str] = frozenset()
    """Metrics with such sums, where this evaluation has been written before."""


class ScoreWriter(Writer):
    """Adds the scores of an evaluation to the runs of the batch that it scores.

    `existing` holds that batch's parent, and of its lines those that have this evaluation's scores.
    """

    def __init__(self, store: StoreWriter, source: Source) -> None:
        super().__init__(store, source)
        self._children: dict[int, _Child] = {}
        self._superseded = False

    @property
    def _base(self) -> str:
        assert self.batch.base_uid
        return self.batch.base_uid

    def read_existing(self) -> None:
        """Read which runs the scored batch has, and which of them have their scores."""
        self._children.clear()
        existing = ExistingRuns()
        alike: dict[frozenset[str], frozenset[str]] = {}
        for run in self.store.runs(self._base):
            if run.line_number is None:
                existing.parent = run
                continue
            metrics, tags = (alike.setdefault(keys, keys) for keys in _of_evaluation(run))
            child = _Child(run.run_id, metrics, tags)
            if self._is_ours(run):
                existing.complete[run.line_number] = run.run_id
                existing.lacking_texts |= {run.line_number} if run.not_kept & tags else set()
                child = replace(child, costs=cost_keys(run.values.metrics))
            elif cost_keys(run.values.metrics):
                child = replace(child, verdicts=tuple(one for one in scores_of(run.values) if one.is_judged))
            self._children[run.line_number] = child
        self.existing = existing

    def _is_ours(self, run: KnownRun) -> bool:
        return run.values.tags.get(EVALUATION_UID) == self.batch.uid

    def open_parent(self) -> str:
        """Return the id of the scored batch's run.

        Raises:
            TrackingRefused: MLflow has no such run.
        """
        if self.existing.parent is None:
            raise TrackingRefused(
                f"MLflow has nothing of the batch {self.batch.base_name!r}, which {self.batch.name!r} scores; "
                f"`{command_on('sync', self.batch.base_name)}` brings it in, then "
                f"`{command_on('sync', self.batch.name)}` its scores."
            )
        self._superseded = self._is_superseded_on(self.existing.parent)
        return self.existing.parent.run_id

    def _is_superseded_on(self, parent: KnownRun) -> bool:
        """Tell whether the batch's run bears an evaluation that started later, and keep what is to be told of that."""
        if int(parent.values.tags.get(EVALUATION_STARTED, 0)) <= self._started():
            return False
        self.remark = (
            f"The evaluation {parent.values.tags.get(EVALUATION)!r} of the same batch started later than "
            f"{self.batch.name!r} and takes its place: MLflow shows the scores of that one."
        )
        return True

    def _started(self) -> int:
        return milliseconds(self.source.facts().start or time.time())

    def write(
        self, line_number: int, opened: float, record: LineRecord | None, store: StoreWriter | None = None
    ) -> LineWritten:
        """Add a line's scores to its run, in one request."""
        child = self._children.get(line_number)
        if child is None:
            return LineWritten(line_number, refused=self._no_run_of(line_number))
        if record is None or not record.scores or self._superseded:
            return LineWritten(line_number)
        store = store or self.store
        record = replace(record, scores=with_earlier_costs(priced(record.scores, self.prices), child.verdicts))
        payload = score_payload(record, evaluation_tags(self.batch), child.stale_metrics)
        payload.metrics = {key: value for key, value in payload.metrics.items() if key not in child.costs}
        payload.tags |= key_tags(score_keys(payload) | child.costs)
        try:
            store.drop_tags(child.run_id, child.stale_tags - payload.tags.keys())
            store.log(child.run_id, payload)
        except TrackingForbidden:
            raise
        except (TrackingRefused, RequestRejected) as error:
            store.open_experiment()  # which fails if nothing gets through
            return LineWritten(line_number, child.run_id, refused=str(error))
        return LineWritten(line_number, child.run_id, lacks_texts=child.run_id in store.lost)

    def _no_run_of(self, line_number: int) -> str:
        return (
            f"MLflow has no child run of line {line_number} of {self.batch.base_name!r}; `"
            f"{command_on('sync', self.batch.base_name)}` makes it, then `{command_on('sync', self.batch.name)}` adds "
            "its scores."
        )

    def note(self, written: LineWritten) -> None:
        """Count a line that was written."""
        if written.refused:
            self.changes.refused += 1
        elif written.run_id:
            self._note_texts(written)
            if written.line_number not in self.existing.complete:
                self.existing.complete[written.line_number] = written.run_id
                self.changes.completed += 1

    def close_parent(self) -> BatchSummary:
        """Write sums and table of the scored batch onto its run, and return it summed up.

        An evaluation that scored no line changes nothing, unless the batch has none that it could have scored.
        """
        scored = bool(self.existing.complete)
        self._superseded |= not scored
        with ResultsTable() as table:
            existing = ExistingRuns.of(table.filled(self._runs_as_scored()))
            parent, summary = existing.parent, existing.summary()
            if parent is None:
                raise TrackingRefused(f"MLflow does not show the batch {self.batch.base_name!r} any more.")
            if not scored:
                summary = replace(summary, scores=evaluated(summary.lines_total, 0))
            if not self._is_superseded_on(parent) and not (self._superseded if scored else summary.lines_completed):
                self._write_sums(existing, parent, summary, table)
        return summary

    def _runs_as_scored(self) -> Iterator[KnownRun]:
        """Yield the batch's runs, those with scores of an earlier evaluation without them, in MLflow too."""
        written = set(self.existing.complete.values())
        for run in self.store.runs(self._base):
            if run.run_id in written and not self._is_ours(run):  # a search may show late what was written here
                run = self.store.active_run(run.run_id) or run
            if run.line_number is None or self._superseded or self._is_ours(run) or run.run_id in written:
                yield run
                continue
            metrics, tags = _of_evaluation(run)
            if metrics or tags:
                self._void(run, metrics, tags)
            kept = {key: value for key, value in run.values.metrics.items() if key not in metrics}
            shown = {key: value for key, value in run.values.tags.items() if key not in tags}
            yield replace(run, values=replace(run.values, metrics=kept, tags=shown))

    def _void(self, run: KnownRun, metrics: frozenset[str], tags: frozenset[str]) -> None:
        if real := [key for key in metrics if _is_number(run.values.metrics[key])]:
            self.store.log(run.run_id, RunPayload("", 0, 0, metrics=dict.fromkeys(real, float("nan"))))
        named = {EVALUATION, EVALUATION_UID} & run.values.tags.keys()
        self.store.drop_tags(run.run_id, tags | named)

    def _write_sums(self, existing: ExistingRuns, parent: KnownRun, summary: BatchSummary, table: ResultsTable) -> None:
        """Write what the parent lacks; its table anew where its sums or its lines' scores were not these."""
        old_metrics, old_tags = _of_evaluation(parent)
        stale = {key for key in old_metrics if _is_number(parent.values.metrics[key])}
        metrics = {**dict.fromkeys(stale, float("nan")), **summary.scores}
        lacking = {key: value for key, value in metrics.items() if parent.values.metrics.get(key) != value}
        if not (lacking or self.changes or not self._is_ours(parent)):
            return
        tags = {**evaluation_tags(self.batch), EVALUATION_STARTED: str(self._started()), **key_tags(summary.scores)}
        self.store.drop_tags(parent.run_id, old_tags - tags.keys())
        self.store.log(parent.run_id, RunPayload("", 0, 0, metrics=lacking, tags=tags))
        table.add_data(self.source.other_columns())
        table.log_to(self.store, parent.run_id)
        self.show_well(replace(existing, parent=parent), self.batch.base_name, summary, table.columns)
        self.changes.parent = "updated"


def _of_evaluation(run: KnownRun) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of a run's metrics and tags that are an evaluation's."""
    values, keys = run.values, score_keys(run.values)
    lists = {key for key in values.tags if key.startswith(EVALUATION_KEYS)}
    not_kept = {f"{NOT_KEPT}{key}" for key in keys}
    return keys.intersection(values.metrics), (keys | not_kept).intersection(values.tags) | lists


def _is_number(value: float) -> bool:
    return value == value
