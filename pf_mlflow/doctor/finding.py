"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from pf_mlflow.errors import PfMlflowError

__all__ = ["ERROR", "OK", "WARNING", "Finding", "verdict"]

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: str
    """`ok`, `warning` (child runs come, but …) or `error` (they do not come, or lack what they should show)."""
    told: str
    remedy: str = ""
    """What mends it; a command that can be pasted stands in backticks."""
    check: str = ""

    @classmethod
    def of(cls, error: PfMlflowError, remedy: str) -> Finding:
        """Return the finding that an error is; its own remedy, behind a dash, goes before the one given."""
        told, _, own = str(error).rstrip(".").partition(" — ")
        return cls(ERROR, told, own or remedy)


def verdict(findings: list[Finding]) -> str:
    """Return the worst level of all."""
    return max((finding.level for finding in findings), key=(OK, WARNING, ERROR).index, default=OK)
