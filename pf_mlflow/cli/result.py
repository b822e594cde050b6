"""What `pf-mlflow run` and `pf-mlflow evaluate` have in common: pairs, what they print, exit codes."""

from __future__ import annotations

from rich.markup import escape

from pf_mlflow.cli.leaving import leave_at_once
from pf_mlflow.cli.output import out, own_command, print_place, print_summary, warn
from pf_mlflow.records.batch import on_batch
from pf_mlflow.running.result import RunResult

__all__ = ["leave", "print_result"]

SOME_FAILED = 3
NOT_DELIVERED = 4
INTERRUPTED = 130


def print_result(result: RunResult) -> None:
    """Print what became of a batch, and what to do next."""
    out.print()
    name = (result.batch and result.batch.base_name) or result.name
    if result.summary:
        print_summary(result.summary, name)
    else:
        out.print(f"Batch {escape(result.name)}: {result.status}")
    if result.failure:
        warn(result.failure)
    if result.trouble:
        warn(result.trouble)
    elif not result.delivered and result.waited:
        warn("MLflow does not have all of it yet; the records wait in the spool.")
    if not result.waited and not result.delivered:
        out.print("Its lines are on their way to MLflow, which was not waited for.")
    if result.batch:
        batch = result.batch
        print_place(name, batch.tracking_uri, batch.experiment, result.parent_run_id, result.link)
    for what, command in _next(result).items():
        out.print(f"{what:<8} {escape(command)}")


def _next(result: RunResult) -> dict[str, str]:
    """Return what to do now, by its label."""
    steps: dict[str, str] = {}
    if not result.waited and not result.delivered:
        steps["Later:"] = own_command(*on_batch("show", result.name))
    elif not result.delivered and (result.parent_run_id or not result.batch):
        steps["Next:"] = own_command(*on_batch("sync", result.name))
    if result.batch and result.batch.base_uid:
        if any(name.endswith("/mean") for name in (result.summary.scores if result.summary else ())):
            steps["Worst:"] = own_command(*on_batch("show", result.batch.base_name, "--worst", "METRIC"))
        if result.summary and result.summary.lines_failed:
            steps["Errors:"] = own_command(*on_batch("show", result.batch.base_name, "--failed"))
        return steps
    if result.lines_failed and result.batch:
        steps["Errors:"] = own_command(*on_batch("show", result.name, "--failed"))
    is_stopped = result.status == "Canceled"
    if is_stopped or result.lines_failed:
        steps["Go on:" if is_stopped else "Again:"] = own_command("run", "--resume-from", result.name)
    return steps


def leave(result: RunResult) -> None:
    """End the command; without waiting for threads if lines were given up."""
    code = _exit_code(result)
    if result.threads_left:
        leave_at_once(code, gives_up_threads=True)
    raise SystemExit(code)


def _exit_code(result: RunResult) -> int:
    if result.interrupted:
        return INTERRUPTED
    if result.status != "Completed":
        return 1
    if not result.delivered and result.waited:
        return NOT_DELIVERED
    return SOME_FAILED if result.lines_failed or result.lines_not_evaluated or result.failure else 0
