"""The only module that uses names which promptflow does not document; checked against promptflow 1.18."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CurrentLine", "batch_logger", "current_line", "promptflow_home", "run_database"]


@dataclass(frozen=True)
class CurrentLine:
    """Which line this code runs in: of a batch, or a single execution with `line_number` `None`."""

    run_name: str
    line_number: int | None


def current_line() -> CurrentLine | None:
    """Return the line that is being executed in this context, or `None` outside of any."""
    from promptflow.tracing._operation_context import OperationContext

    context = OperationContext.get_instance()
    return line_of_attributes(context.get("_otel_attributes") or {})


def line_of_attributes(attributes: Any) -> CurrentLine | None:
    """Return the line that a span's attributes, or the context's, tell of."""
    if "batch_run_id" in attributes:
        number = attributes.get("line_number")
        return None if number is None else CurrentLine(str(attributes["batch_run_id"]), int(number))
    if "line_run_id" in attributes:
        return CurrentLine(str(attributes["line_run_id"]), None)
    return None


def batch_logger() -> logging.Logger:
    """Return promptflow's logger whose lines stand in a batch's `logs.txt`."""
    from promptflow._utils.logger_utils import logger

    return logger  # type: ignore[no-any-return]


def promptflow_home() -> Path:
    """Return promptflow's folder, `~/.promptflow` unless `PF_HOME_DIRECTORY` names another.

    Written out here because importing promptflow's own constant makes the folder.
    """
    configured = os.environ.get("PF_HOME_DIRECTORY")
    return (Path(configured) if configured else Path.home() / ".promptflow").resolve()


def run_database(home: Path) -> Path:
    """Return the SQLite file that holds promptflow's run records."""
    return home / "pf.sqlite"
