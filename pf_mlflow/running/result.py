"""What became of a batch, once MLflow has it."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from pf_mlflow.projection.notebook import Shown, notebook_html
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.batch import Batch, command_on
from pf_mlflow.running.model_choice import ModelChoice
from pf_mlflow.running.monitor import Monitor
from pf_mlflow.running.plainly import plainly
from pf_mlflow.settings import Settings
from pf_mlflow.sources.live.api import batch_started
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.flow import saves_scores
from pf_mlflow.sources.promptflow.known_secrets import known_secrets
from pf_mlflow.sources.promptflow.outcome import failure_of
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid, run_record
from pf_mlflow.spool.entries import BatchState
from pf_mlflow.spool.launch import deliver_in_background, is_held
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.links import run_link

__all__ = ["RunResult", "result_of", "result_without_lines"]

_POLL = 0.03
"""Seconds between two looks at the delivery."""
_PATIENCE = 60.0
"""Seconds without progress after which the delivery of a batch is not waited for any longer."""


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
    delivered: bool = True
    """Whether MLflow has all that is to be logged of it."""
    waited: bool = True
    """Whether it was waited for."""

    def after(self, base: RunResult) -> RunResult:
        """Return the result of an evaluation with what must not be forgotten of the batch that it scored."""
        return replace(
            self,
            threads_left=self.threads_left or base.threads_left,
            trouble=self.trouble or base.trouble,
            delivered=self.delivered and base.delivered,
        )

    @property
    def lines_not_evaluated(self) -> int:
        """How many lines an evaluation could not score."""
        scores = self.summary.scores if self.summary else {}
        return int(scores.get("lines_not_evaluated", 0))

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        name = (self.batch and self.batch.base_name) or self.name
        place = f"{self.batch.tracking_uri}, experiment {self.batch.experiment!r}" if self.batch else None
        facts = {"status": self.status, "language model": self.model and self.model.label, "MLflow": place}
        commands = {} if self.delivered else {"Next": command_on("sync", self.name)}
        if self.lines_failed and self.batch:
            commands["Errors"] = command_on("show", name, "--failed")
        if self.parent_run_id and not self.link:
            commands["Look at"] = command_on("ui", name)
        notes = [note for note in (self.failure, self.trouble) if note]
        return notebook_html(Shown(name, facts, self.summary, notes, self.link, commands), known_secrets())

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
            "delivered": self.delivered,
            "trouble": self.trouble,
            "next": None if self.delivered else command_on("sync", self.name),
            "failure": self.failure,
        }


def result_of(
    run: Any, model: ModelChoice, settings: Settings, monitor: Monitor, seconds: float, wait: bool
) -> RunResult:
    """Wait for the delivery of a batch that promptflow has run, if asked to, and return what became of it."""
    home = promptflow_home()
    record = run_record(home, run.name)
    result = RunResult(
        name=run.name,
        status=run.status,
        model=model,
        failure=monitor.hopeless or (_why(record, run.status) if record else None) or monitor.failure,
        lines_failed=record.lines_failed if record else 0,
        seconds=seconds,
        interrupted=monitor.stop.stops and not monitor.hopeless,
        threads_left=monitor.gave_up or monitor.stop.hurries,
    )
    if record is None or not settings.enabled or (record.is_evaluation() and not saves_scores(record.flow_as_run)):
        return result
    return _delivered(result, Spool(settings.spool_dir), batch_uid(home, run.name, record.created_on), wait)


def _why(record: RunRecord, status: str) -> str | None:
    if status != "Failed" and record.is_evaluation() and (first := _first_failure(record)):
        return first
    failure = failure_of(record)
    return failure and plainly(failure)


def _first_failure(record: RunRecord) -> str | None:
    """Return why lines of an evaluation failed: they have no run that would show it."""
    lines = BatchFolder.of(record).lines("", record.name) if record.lines_failed else ()
    line = next((line for line in lines if line.error), None)
    if line is None:
        return None
    return f"{record.lines_failed} lines could not be scored. Line {line.line_number}: {line.error_type}: {line.error}"


def result_without_lines(batch: Batch, spool: Spool, settings: Settings) -> RunResult:
    """Deliver a batch that has no lines, and return what became of it."""
    result = RunResult(name=batch.name, status="Completed")
    if not settings.enabled:
        return result
    spool.add_batch(batch)
    return _delivered(result, spool, batch.uid)


def _delivered(result: RunResult, spool: Spool, uid: str, wait: bool = True) -> RunResult:
    """Add what MLflow has of a batch when it has all, or nothing has moved for a minute, or its delivery gave up."""
    try:
        if spool.state(uid) is None and (batch := batch_started(result.name)):
            deliver_in_background(spool, batch.uid)  # no node of the flow has opened a line
        state, interrupted = _await_delivery(spool, uid, _PATIENCE if wait else 0.0)
        left = spool.waiting(uid)
    except (OSError, sqlite3.Error) as error:
        return replace(result, delivered=False, waited=wait, trouble=f"The spool cannot be used: {error}.")
    if state is None:
        return replace(result, delivered=False, waited=wait)
    return replace(
        result,
        batch=state.batch,
        parent_run_id=state.parent_run_id,
        link=_link(state),
        summary=BatchSummary.from_json(state.summary) if state.summary and state.closed else None,
        trouble=state.trouble,
        delivered=bool(state.closed) and not left,
        waited=wait,
        interrupted=result.interrupted or interrupted,
    )


def _link(state: BatchState) -> str | None:
    return run_link(state.batch.tracking_uri, state.experiment_id, state.parent_run_id)


def _await_delivery(spool: Spool, uid: str, patience: float) -> tuple[BatchState | None, bool]:
    """Return how a batch stands when MLflow has it or nobody need wait any more, and whether somebody would not."""
    seen, until = None, 0.0
    try:
        while (state := spool.state(uid)) and not state.closed and not _has_given_up(spool, state):
            sign = (spool.waiting(uid), state.parent_run_id, None if state.trouble else state.beat)
            if sign != seen:
                seen, until = sign, time.monotonic() + patience
            if time.monotonic() >= until:
                break
            deliver_in_background(spool, uid)  # the process of the batch may have been killed
            time.sleep(_POLL)
    except KeyboardInterrupt:
        return spool.state(uid), True
    return state, False


def _has_given_up(spool: Spool, state: BatchState) -> bool:
    """Tell whether trouble was told and nobody is at the batch any more."""
    return state.trouble is not None and not is_held(spool.folder, state.batch.uid)
