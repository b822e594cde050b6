"""What was done in MLflow: for a line, and for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from pf_mlflow.summary import LineStats

__all__ = ["Changes", "Written"]


@dataclass(frozen=True)
class Written:
    """What was done for a line."""

    line_number: int
    run_id: str
    stats: LineStats | None
    """`None` while the line goes on."""
    made: bool = False
    """Whether MLflow had no run of the line before."""
    end_ms: int = 0
    refused: str | None = None
    """Why MLflow did not take the line's values."""


@dataclass
class Changes:
    """How many runs were touched, and what was done to the parent."""

    made: int = 0
    completed: int = 0
    removed: int = 0
    refused: int = 0
    parent: str = ""

    def __bool__(self) -> bool:
        return bool(self.made or self.completed or self.removed or self.parent)
