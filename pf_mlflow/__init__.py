"""Everything a prompt flow did, line by line, in MLflow.

These are the names that a flow's nodes use, and `run` for scripts and notebooks; `pf-mlflow --help` lists what the
command does.
"""

from __future__ import annotations

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


def run(flow: str | Path, data: str | Path | None = None, **options: Any) -> RunResult:
    """Run a flow over a data file as `pf-mlflow run` does, and return what became of the batch when MLflow has it.

    Args:
        flow: Folder of the flow, or a prompty.
        data: The lines: a JSONL file.
        options: Further fields of `pf_mlflow.running.request.RunRequest`: `column_mapping`, `name`, `concurrency`.

    Raises:
        PfMlflowError: what is wrong, and what to do about it, in one sentence.
    """
    from pf_mlflow.running.observer import Observer
    from pf_mlflow.running.request import RunRequest
    from pf_mlflow.running.run import run_batch

    return run_batch(RunRequest(Path(flow), Path(data) if data else None, **options), Observer())
