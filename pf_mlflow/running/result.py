"""What became of a batch, once MLflow has it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.batch import Batch
from pf_mlflow.running.model_choice import ModelChoice
from pf_mlflow.running.monitor import Monitor
from pf_mlflow.settings import Settings
from pf_mlflow.sources.live.api import batch_started
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.outcome import failure_of
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid, run_record
from pf_mlflow.spool.entries import BatchState
from pf_mlflow.spool.launch import deliver_in_background
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.links import run_link

__all__ = ["RunResult", "result_of", "result_without_lines"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What became of a batch."""

    name: str
    status: str
    """promptflow's: `Completed`, `Failed` or `Canceled`."""
    model: ModelChoice | None = None
    """`None` if nothing was executed."""
    failure: str | None = None
    """Why the batch as a whole failed, or what sums it up, or the first line of an evaluation."""
    lines_failed: int = 0
    seconds: float = 0.0
    """From the call to the last line's result, delivery not counted."""
    interrupted: bool = False
    threads_left: bool = False
    """Whether a line was given up whose thread may still run: this process would wait for it at its end."""
    batch: Batch | None = None
    """`None` if no line of it was tracked."""
    parent_run_id: str | None = None
    link: str | None = None
    """Address of the parent run's page; `None` while no server shows it."""
    summary: BatchSummary | None = None
    """`None` while MLflow does not have all its lines."""
    trouble: str | None = None
    """What keeps its lines from MLflow."""

    def after(self, base: RunResult) -> RunResult:
        """Return the result of an evaluation with what must not be forgotten of the batch that it scored."""
        left, trouble = self.threads_left or base.threads_left, self.trouble or base.trouble
        return replace(self, threads_left=left, trouble=trouble)

    @property
    def lines_not_evaluated(self) -> int:
        """How many lines an evaluation could not score."""
        scores = self.summary.scores if self.summary else {}
        return int(scores.get("lines_not_evaluated", 0))

    def as_dict(self) -> dict[str, Any]:
        """Return what a program wants to know."""
        batch = self.batch
        return {
            "batch": self.name,
            "status": self.status,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "language_model": self.model.label if self.model else None,
            "lines_failed": self.lines_failed,
            **(asdict(self.summary) if self.summary else {}),
            "tracking_uri": batch.tracking_uri if batch else None,
            "experiment": batch.experiment if batch else None,
            "parent_run_id": self.parent_run_id,
            "link": self.link,
            "trouble": self.trouble,
            "failure": self.failure,
        }


def result_of(run: Any, model: ModelChoice, settings: Settings, monitor: Monitor, seconds: float) -> RunResult:
    """Wait for the delivery of a batch that promptflow has run, and return what became of it."""
    home = promptflow_home()
    record = run_record(home, run.name)
    spool = Spool(settings.spool_dir)
    uid = batch_uid(home, run.name, record.created_on) if record else ""
    if settings.enabled and spool.state(uid) is None and (batch := batch_started(run.name)):
        deliver_in_background(spool, batch.uid)  # no node of the flow has opened a line
    result = RunResult(
        name=run.name,
        status=run.status,
        model=model,
        failure=_why(record, run.status) if record else None,
        lines_failed=record.lines_failed if record else 0,
        seconds=seconds,
        interrupted=monitor.stop.stops,
        threads_left=monitor.gave_up or monitor.stop.hurries,
    )
    return _delivered(result, spool, uid if settings.enabled else "")


def _why(record: RunRecord, status: str) -> str | None:
    if status == "Failed" or not record.is_evaluation():
        return failure_of(record)
    return _first_failure(record) or failure_of(record)


def _first_failure(record: RunRecord) -> str | None:
    """Return why lines of an evaluation failed: they have no run that would show it."""
    lines = BatchFolder.of(record).lines("", record.name) if record.lines_failed else ()
    line = next((line for line in lines if line.error), None)
    if line is None:
        return None
    return f"{record.lines_failed} lines could not be scored. Line {line.line_number}: {line.error_type}: {line.error}"


def result_without_lines(batch: Batch, spool: Spool, settings: Settings) -> RunResult:
    """Deliver a batch that has no lines, and return what became of it."""
    if settings.enabled:
        spool.add_batch(batch)
    return _delivered(RunResult(name=batch.name, status="Completed"), spool, batch.uid)


def _delivered(result: RunResult, spool: Spool, uid: str) -> RunResult:
    """Add what MLflow has of a batch when it has all, or nothing has gone to it for a minute, or trouble is known."""
    state = _await_delivery(spool, uid)
    if state is None:
        return result
    return replace(
        result,
        batch=state.batch,
        parent_run_id=state.parent_run_id,
        link=_link(state),
        summary=BatchSummary.from_json(state.summary) if state.summary else None,
        trouble=state.trouble,
    )


def _link(state: BatchState) -> str | None:
    return run_link(state.batch.tracking_uri, state.experiment_id, state.parent_run_id)


def _await_delivery(spool: Spool, uid: str, patience: float = 60.0) -> BatchState | None:
    waiting, until = -1, time.monotonic() + patience
    while (state := spool.state(uid)) and not state.closed and not state.trouble:
        left = spool.waiting(uid)
        if left != waiting:
            waiting, until = left, time.monotonic() + patience
        if time.monotonic() > until:
            break
        deliver_in_background(spool, uid)  # the process of the batch may have been killed
        time.sleep(0.1)
    return state
