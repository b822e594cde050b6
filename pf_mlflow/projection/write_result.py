"""What was done in MLflow: for a line, and for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from pf_mlflow.tracking.known_run import KnownRun

__all__ = ["Changes", "LineWritten"]


@dataclass(frozen=True)
class LineWritten:
    """What was done for a line."""

    line_number: int
    run_id: str = ""
    run: KnownRun | None = None
    """The run as long as it shows less than the line was, or the line goes on."""
    is_over: bool = False
    """Whether the line's end was written: it does not go on, and was not there already."""
    made: bool = False
    """Whether MLflow had no run of the line before."""
    end_ms: int = 0
    lacks_texts: bool = False
    """Whether no file could keep the whole of its long values."""
    refused: str | None = None
    """Why MLflow did not take the line's values."""
    shown: int = 0
    """Fingerprint of what the run shows now."""


@dataclass
class Changes:
    """How many runs were touched, and what was done to the parent."""

    made: int = 0
    completed: int = 0
    removed: int = 0
    refused: int = 0
    parent: str = ""
    """`made`, `ended`, `updated` or nothing."""

    def __bool__(self) -> bool:
        return bool(self.made or self.completed or self.removed or self.parent)
