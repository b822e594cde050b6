"""What MLflow shows of a batch, read back and summed up, and what it lacks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pf_mlflow.errors import BadInput, TrackingError
from pf_mlflow.projection import score_payload
from pf_mlflow.projection.existing_runs import ExistingRuns
from pf_mlflow.projection.notebook import Shown, notebook_html
from pf_mlflow.projection.summary import BatchSummary, LineStats
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.source import Source
from pf_mlflow.reports.batch_lookup import FoundBatch, find_batch
from pf_mlflow.scoring.sums import VERSION
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.known_secrets import known_secrets
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import run_record
from pf_mlflow.sources.promptflow.store_access import access_to_store_of
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.links import run_link
from pf_mlflow.tracking.run_payload import NOT_LOGGED, path_of_whole

if TYPE_CHECKING:
    from pf_mlflow.tracking.reader import StoreReader

__all__ = [
    "BatchReport",
    "DELETED",
    "EVALUATION",
    "FailedLine",
    "MISSING",
    "RUNNING",
    "UNFINISHED",
    "show_batch",
]

DELIVERED = "delivered"
RUNNING = "running"
UNFINISHED = "unfinished"
MISSING = "missing"
DELETED = "deleted"
EVALUATION = "evaluation"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailedLine:
    """A line that failed, with its whole error."""

    line_number: int
    run_id: str
    link: str | None
    label: str
    error_type: str | None
    error: str


@dataclass(frozen=True)
class BatchReport:
    """A batch as MLflow shows it, and what MLflow lacks of it."""

    batch: Batch
    state: str
    """`delivered`, `running`, `unfinished`, `missing`, `deleted` or `evaluation`."""
    older: int = 0
    """Batches of the same name before this one."""
    is_ours: bool = True
    """Whether it ran on this machine."""
    base_batch: str | None = None
    """The batch that an evaluation scores."""
    experiment_id: str | None = None
    parent_run_id: str | None = None
    status: str | None = None
    """Status of the parent run."""
    deleted_run_id: str | None = None
    """The parent run of a batch that somebody deleted in MLflow."""
    link: str | None = None
    """Address of the parent run's page; `None` while no server shows it."""
    lines_open: int = 0
    """Lines whose child run is RUNNING."""
    lines_waiting: int = 0
    """Lines of which MLflow does not have all yet, by the spool."""
    lines_refused: int = 0
    """Lines whose values MLflow did not take."""
    runs_twice: int = 0
    """Runs that show what another one shows."""
    error: str | None = None
    """Why the batch as a whole failed, or what sums its lines up."""
    evaluation_cut_off: str | None = None
    """The last evaluation of its lines, if that ended before it had tried to score all."""
    trouble: str | None = None
    """What keeps lines from MLflow, as the delivery process put it last."""
    summary: BatchSummary | None = None
    """`None` where only the failed lines were read, or MLflow has nothing of the batch."""
    failures: tuple[FailedLine, ...] = ()
    """Every failed line by number, where these were asked for."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        place = f"{self.batch.tracking_uri}, experiment {self.batch.experiment!r}"
        facts = {"state": self.state, "status": self.status, "MLflow": place}
        notes = [note for note in (self.error, self.trouble) if note]
        return notebook_html(Shown(self.batch.name, facts, self.summary, notes, self.link), known_secrets())

    def as_dict(self) -> dict[str, Any]:
        """Return what is shown, flat: of the failed lines either all, or the first ones of the summary."""
        batch = {"batch": self.batch.name, "uid": self.batch.uid}
        place = {"tracking_uri": self.batch.tracking_uri, "experiment": self.batch.experiment}
        own = {key: value for key, value in vars(self).items() if key not in ("batch", "summary", "failures")}
        lines = asdict(self.summary) if self.summary else {"failed": [asdict(line) for line in self.failures]}
        return {**batch, **place, **own, **lines}


def show_batch(
    spool: Spool, settings: Settings, name: str, only_failed: bool = False, worst_by: str = ""
) -> BatchReport:
    """Read a batch back: all its lines summed up, or only those that failed, each with its whole error.

    Raises:
        BadInput: nobody knows the batch, or no line of it has a score of the metric.
        TrackingError: MLflow cannot be reached, or refuses.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # somebody is waiting
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    found = find_batch(spool, settings, name)
    source = LocalSource.of(found.batch, spool)
    if base_batch := source.facts().base_batch:
        return BatchReport(found.batch, EVALUATION, found.older, base_batch=base_batch)
    from pf_mlflow.tracking.reader import StoreReader

    reader = StoreReader(found.tracking_uri, found.batch.experiment, spool.folder, found.parent_run_id)
    with access_to_store_of(found.batch, settings):
        reader.open_experiment()
        report = _ReportReader(spool, found, source, reader, only_failed, worst_by).report()
    if worst_by:
        _check_metric(report, worst_by)
    return report


def _check_metric(report: BatchReport, metric: str) -> None:
    sums = report.summary.scores if report.summary else {}
    if f"{metric}{VERSION}/mean" not in sums:
        if f"{metric}{VERSION}/count" in sums:
            raise BadInput(f"The scores {metric!r} are texts, none of which is the lowest; MLflow has them as tags.")
        known = ", ".join(name.removesuffix(f"{VERSION}/mean") for name in sums if name.endswith("/mean"))
        raise BadInput(
            f"No line has a score {metric!r}; {f'there are {known}' if known else '`pf-mlflow evaluate` scores them'}."
        )


class _ReportReader:
    """Reads the runs of one batch, and keeps those of failed lines where only these are asked for."""

    def __init__(
        self, spool: Spool, found: FoundBatch, source: Source, reader: StoreReader, only_failed: bool, worst_by: str
    ) -> None:
        self._spool, self._found, self._source, self._reader = spool, found, source, reader
        self._uid = found.batch.uid
        self._only_failed = only_failed
        self._failed: dict[str, FailedLine] = {}
        self._existing = ExistingRuns.of(self._runs(), worst_by=worst_by)

    def _runs(self) -> Iterable[KnownRun]:
        if not self._only_failed:
            return self._reader.runs(self._uid)
        return map(self._note_failure, self._reader.all_but_completed_lines(self._uid))

    def _note_failure(self, run: KnownRun) -> KnownRun:
        if run.line_number is not None and run.is_over:
            self._failed[run.run_id] = self._failed_line(run, run.line_number)
        return run

    def report(self) -> BatchReport:
        parent, state = self._existing.parent, self._spool.state(self._uid)
        over = {number: known for number, known in self._existing.incomplete.items() if known.is_over}
        has_runs = bool(parent or self._existing.complete or self._existing.incomplete)
        deleted = None if has_runs else self._reader.deleted_parent(self._uid)
        return BatchReport(
            batch=replace(self._found.batch, experiment=self._reader.experiment or self._found.batch.experiment),
            state=self._state(has_runs, deleted),
            older=self._found.older,
            is_ours=self._found.is_ours,
            experiment_id=self._reader.experiment_id or None,
            parent_run_id=parent.run_id if parent else None,
            status=parent.values.status if parent else None,
            deleted_run_id=deleted,
            link=self._link(parent.run_id) if parent else None,
            lines_open=len(self._existing.incomplete) - len(over),
            lines_waiting=self._waiting(),
            lines_refused=sum(NOT_LOGGED in known.values.tags for known in over.values()),
            runs_twice=len(self._existing.surplus),
            error=self._whole(parent, parent.values.tags.get("promptflow.error", "")) or None if parent else None,
            evaluation_cut_off=self._evaluation_cut_off(parent),
            trouble=state.trouble if state else None,
            summary=self._existing.summary() if has_runs and not self._only_failed else None,
            failures=tuple(sorted(self._failures(), key=lambda line: line.line_number)),
        )

    def _state(self, has_runs: bool, deleted: str | None) -> str:
        parent = self._existing.parent
        is_over = bool(parent and parent.is_over)
        still_runs = self._source.is_running() if self._found.is_ours else parent and not is_over
        if still_runs:
            return RUNNING
        if not has_runs:
            return DELETED if deleted else MISSING
        still_open = any(not known.is_over for known in self._existing.incomplete.values())
        lacks = self._waiting() or still_open or self._existing.surplus
        return DELIVERED if is_over and not lacks else UNFINISHED

    def _evaluation_cut_off(self, parent: KnownRun | None) -> str | None:
        name = parent.values.tags.get(score_payload.EVALUATION, "") if parent else ""
        record = run_record(promptflow_home(), name) if name else None
        if record is None or record.status == "Completed":
            return None
        known = self._spool.batches_named(name)
        return None if known and LocalSource.of(known[-1], self._spool).is_running() else name

    def _waiting(self) -> int:
        return self._spool.undelivered(self._uid)

    def _link(self, run_id: str) -> str | None:
        return run_link(self._found.tracking_uri, self._reader.experiment_id, run_id)

    def _failures(self) -> Iterator[FailedLine]:
        return (line for line in self._failed.values() if line.run_id == self._existing.run_id(line.line_number))

    def _failed_line(self, run: KnownRun, number: int) -> FailedLine:
        tags, stats = run.values.tags, LineStats.of(number, run.values)
        error = tags.get("promptflow.error") or tags.get(NOT_LOGGED) or ""
        kind = tags.get("promptflow.error_type")
        return FailedLine(number, run.run_id, self._link(run.run_id), stats.label, kind, self._whole(run, error))

    def _whole(self, run: KnownRun, error: str) -> str:
        """Return an error that was cut with all its text, as far as that can be read."""
        path = path_of_whole(error)
        try:
            return self._reader.text(run.run_id, path) if path else error
        except TrackingError as trouble:
            log.warning("line %s: %s", run.line_number, trouble)
            return error
