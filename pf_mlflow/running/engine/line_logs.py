"""What lines log and print, kept apart by line though they run at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from promptflow._core.log_manager import NodeLogManager
from promptflow._utils.logger_utils import (
    CredentialScrubberFormatter,
    LogContext,
    _get_format_for_logger,
    flow_logger,
    logger,
)

__all__ = ["LineLogs", "SharedNodeLogs"]

_lines: ContextVar[list[str] | None] = ContextVar("pf_mlflow_line_log", default=None)


class LineLogs(logging.Handler):
    """Writes what each line logs into a file of its own, `000000007.log`, when the line is over.

    promptflow's `LogContext` would do it with handlers of which the first line that ends removes all.
    """

    def __init__(self) -> None:
        super().__init__()
        context = LogContext.get_current()
        folder = context.flow_logs_folder if context else None
        self._folder = Path(folder) if folder else None
        formatter = CredentialScrubberFormatter(*_get_format_for_logger())
        formatter.set_credential_list((context and context.credential_list) or [])
        self.setFormatter(formatter)

    def __enter__(self) -> LineLogs:
        for one in (logger, flow_logger):
            one.addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        for one in (logger, flow_logger):
            one.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record of the line that this context executes."""
        rows = _lines.get()
        if rows is not None:
            rows.append(self.format(record))

    @contextmanager
    def of_line(self, number: int) -> Iterator[None]:
        """Collect what is logged in this context, and in those copied from it."""
        rows: list[str] = []
        token = _lines.set(rows)
        try:
            yield
        finally:
            _lines.reset(token)
            if rows and self._folder:
                (self._folder / f"{number:09}.log").write_text("\n".join(rows) + "\n", encoding="utf-8")


class SharedNodeLogs(NodeLogManager):  # type: ignore[misc]
    """Takes the place of stdout and stderr once for all lines.

    Each line would put itself there and what it found back in the end, by turns with others that do the same.
    """

    def __enter__(self) -> SharedNodeLogs:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Catch what is printed until the block is left."""
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__()

    @contextmanager
    def of_line(self, key: str, number: int) -> Iterator[Any]:
        """Catch what a line without nodes prints."""
        self.set_node_context(key, "Flex", number)
        try:
            yield
        finally:
            self.clear_node_context(key)
