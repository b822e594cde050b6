"""What scripts and notebooks call: the commands of `pf-mlflow` as functions, with the same options and checks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pf_mlflow.delivery.sync import Synced, SyncProgress, sync_batches
from pf_mlflow.evaluation.request import EvaluationRequest, metric_names
from pf_mlflow.evaluation.run import evaluate as evaluate_batch
from pf_mlflow.reports.show import BatchReport, show_batch
from pf_mlflow.running.data_file import data_file
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.request import RunRequest
from pf_mlflow.running.result import RunResult
from pf_mlflow.running.run import run_batch
from pf_mlflow.settings import settings_here
from pf_mlflow.settings.environment import loopback_unproxied
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.active_run import active_run

__all__ = ["evaluate", "run", "show", "sync"]


def run(
    flow: str | Path | None = None,
    data: Any = None,
    *,
    column_mapping: Mapping[str, str] | None = None,
    name: str | None = None,
    display_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    parent_run: str | None = None,
    variant: str | None = None,
    connections: Mapping[str, Mapping[str, str]] | None = None,
    init: Mapping[str, str] | None = None,
    environment_variables: Mapping[str, str] | None = None,
    run: str | None = None,
    resume_from: str | None = None,
    resume_changed: bool = False,
    engine: str = "threads",
    concurrency: int | None = None,
    limit: int | None = None,
    line_timeout: int | None = None,
    wait: bool = True,
) -> RunResult:
    """Run a flow over data as `pf-mlflow run` does, and return what became of the batch when MLflow has it.

    Batches of one process take turns.

    Args:
        flow: Folder of a flow, its YAML file, or a prompty.
        data: A file or folder of rows, a pandas frame, or a list of dicts.
        column_mapping: Where inputs come from, as `{"question": "${data.question}"}`; the others take the column of
            their name.
        name: The batch's name; promptflow makes one up.
        display_name: What its parent run is called in MLflow.
        tags: Tags of promptflow's run.
        parent_run: Id of a run of yours that the batch's is put below; the active one unless said, `""` for none.
        variant: `${node.variant}`, of a node with variants.
        connections: `{node: {input: connection}}`, instead of those that the flow names.
        init: What a flex flow's class is made with.
        environment_variables: Set while the batch runs.
        run: A batch whose outputs are inputs, as `${run.outputs.answer}`.
        resume_from: A batch whose completed lines are taken over.
        resume_changed: Whether to take them over though rows or flow have changed.
        engine: `threads`, or `processes` for promptflow's own pool.
        concurrency: Lines at once; 32 threads, or as many processes as promptflow starts.
        limit: Execute only so many first lines.
        line_timeout: Seconds after which a line fails alone.
        wait: Whether to wait until MLflow has everything.

    Raises:
        PfMlflowError: What is wrong, and what to do about it, in one sentence.
    """
    request = RunRequest(
        flow=Path(flow) if flow else None,
        data=data_file(data),
        column_mapping={} if column_mapping is None else column_mapping,
        name=name,
        display_name=display_name,
        tags={} if tags is None else tags,
        variant=variant,
        connections={} if connections is None else connections,
        init={} if init is None else init,
        environment_variables={} if environment_variables is None else environment_variables,
        run=run,
        resume_from=resume_from,
        resume_changed=resume_changed,
        engine=engine,
        concurrency=concurrency,
        limit=limit,
        line_timeout=line_timeout,
        wait=wait,
        **_below(parent_run),
    )
    return run_batch(request, Observer())


def _below(parent_run: str | None) -> dict[str, Any]:
    """Return what a request says of the run that a batch is put below: the one that is named, else the active one."""
    active = active_run() if parent_run is None else None
    if active is None:
        return {"parent_run": parent_run}
    return {"parent_run": active.run_id, "fallbacks": active.variables()}


def evaluate(
    batch: str | None = None,
    *,
    data: Any = None,
    flow: str | Path | None = None,
    metrics: str | Sequence[str] = (),
    column_mapping: Mapping[str, str] | None = None,
    judge_model: str = "",
    judge_connection: str | None = None,
    retry_errors: bool = False,
    name: str | None = None,
    parent_run: str | None = None,
    environment_variables: Mapping[str, str] | None = None,
    concurrency: int = 32,
    wait: bool = True,
) -> RunResult:
    """Score the lines of a batch, or finished answers, as `pf-mlflow evaluate` does.

    Args:
        batch: The batch whose lines are scored; without one, `data` holds finished answers.
        data: The batch's own rows, or finished answers: a file, a pandas frame, or a list of dicts.
        flow: An evaluation flow of your own; the one included scores otherwise.
        metrics: Names of metrics, or files with your own; all that can be given unless said.
        column_mapping: Where inputs come from that are not found by their names.
        judge_model: Model of the judges, on Azure its deployment; `""` asks none.
        judge_connection: promptflow's connection to it; `open_ai_connection` unless said.
        retry_errors: Run the batch's last evaluation again, to ask only the judges that failed.
        name: The evaluation's name; promptflow makes one up.
        parent_run: Id of a run of yours that finished answers are put below; the active one unless said, `""` for none.
        environment_variables: Set while it runs.
        concurrency: Lines at once.
        wait: Whether to wait until MLflow has the scores.

    Raises:
        PfMlflowError: What is wrong, and what to do about it, in one sentence.
    """
    request = EvaluationRequest(
        base=batch,
        flow=Path(flow) if flow else None,
        data=data_file(data),
        column_mapping={} if column_mapping is None else column_mapping,
        metrics=metric_names(metrics) if isinstance(metrics, str) else tuple(metrics),
        judge_model=judge_model,
        judge_connection=judge_connection,
        retry_errors=retry_errors,
        name=name,
        environment_variables={} if environment_variables is None else environment_variables,
        concurrency=concurrency,
        wait=wait,
        **_below(parent_run),
    )
    return evaluate_batch(request, Observer())


def sync(*batches: str, every: bool = False, dry_run: bool = False) -> list[Synced]:
    """Bring MLflow in line with finished batches, as `pf-mlflow sync` does.

    Args:
        batches: Their names; without any, all that MLflow does not fully have.
        every: Take every batch that promptflow has run on this machine.
        dry_run: Only find out what would be done.

    Raises:
        PfMlflowError: Nobody knows a name, or a setting cannot be used; what fails for one batch is its `trouble`.
    """
    os.environ.update(loopback_unproxied(os.environ))
    settings = settings_here()
    return sync_batches(Spool(settings.spool_dir), settings, batches, every, dry_run, SyncProgress())


def show(batch: str, *, failed: bool = False, worst: str = "") -> BatchReport:
    """Return a batch as MLflow has it, also while it runs, as `pf-mlflow show` does; nothing is changed.

    Args:
        batch: Its name.
        failed: Read the lines that failed, each with its whole error, instead of the sums.
        worst: A metric, of whose lowest scores the summary holds the lines.

    Raises:
        PfMlflowError: Nobody knows the batch or the metric, or MLflow cannot be reached.
    """
    os.environ.update(loopback_unproxied(os.environ))
    settings = settings_here()
    return show_batch(Spool(settings.spool_dir), settings, batch, failed, worst)
