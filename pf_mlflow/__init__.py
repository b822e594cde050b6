"""Everything a prompt flow did, line by line, in MLflow.

These are the names that a flow's nodes use, and `run` for scripts and notebooks; `pf-mlflow --help` lists what the
command does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pf_mlflow.__version__ import __version__
from pf_mlflow.sources.live.api import attach, child_run_id, open_line, record_nodes

if TYPE_CHECKING:
    from pf_mlflow.evaluation.nodes import checked_scores, sum_up
    from pf_mlflow.running.result import RunResult

__all__ = [
    "__version__",
    "attach",
    "checked_scores",
    "child_run_id",
    "open_line",
    "record_nodes",
    "run",
    "sum_up",
]


def __getattr__(name: str) -> Any:
    """Import what only the nodes of evaluation flows call when they ask for it."""
    if name not in ("checked_scores", "sum_up"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pf_mlflow.evaluation import nodes

    return getattr(nodes, name)


def run(
    flow: str | Path | None = None,
    data: Any = None,
    *,
    column_mapping: Mapping[str, str] | None = None,
    name: str | None = None,
    display_name: str | None = None,
    tags: Mapping[str, str] | None = None,
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
    """Run a flow over a data file as `pf-mlflow run` does, and return what became of the batch when MLflow has it.

    The options are those of the command, whose `--help` tells of them; `data` may also be a pandas frame or a list of
    dicts. Batches of one process take turns.

    Raises:
        PfMlflowError: what is wrong, and what to do about it, in one sentence.
    """
    from pf_mlflow.running.data_file import data_file
    from pf_mlflow.running.observer import Observer
    from pf_mlflow.running.request import RunRequest
    from pf_mlflow.running.run import run_batch

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
    )
    return run_batch(request, Observer())
