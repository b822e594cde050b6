"""Everything a prompt flow did, line by line, in MLflow.

These are the names that a flow's nodes use, and the functions for scripts and notebooks; `pf-mlflow --help` lists what
the command does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pf_mlflow.__version__ import __version__
from pf_mlflow.sources.live.api import attach, child_run_id, open_line, record_nodes

if TYPE_CHECKING:
    from pf_mlflow.api import evaluate, run, show, sync
    from pf_mlflow.evaluation.nodes import checked_scores, sum_up

__all__ = [
    "__version__",
    "attach",
    "checked_scores",
    "child_run_id",
    "evaluate",
    "open_line",
    "record_nodes",
    "run",
    "show",
    "sum_up",
    "sync",
]

_IMPORTED_WHEN_ASKED_FOR = {
    "pf_mlflow.api": ("evaluate", "run", "show", "sync"),
    "pf_mlflow.evaluation.nodes": ("checked_scores", "sum_up"),
}


def __getattr__(name: str) -> Any:
    """Import what no node of a recorded flow calls when it is asked for."""
    for module, names in _IMPORTED_WHEN_ASKED_FOR.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
