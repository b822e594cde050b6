"""What a check found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass

from pf_mlflow.errors import PfMlflowError

__all__ = ["ERROR", "OK", "WARNING", "CheckResult", "verdict"]

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked at."""

    level: str
    """`ok`, `warning` (batches run, but …) or `error` (what stops a batch, or keeps its runs from MLflow)."""
    message: str
    remedy: str = ""
    """What mends it; a command that can be pasted stands in backticks."""
    check: str = ""

    @classmethod
    def of(cls, error: PfMlflowError, remedy: str) -> CheckResult:
        """Return an error as a result; its own remedy, behind a dash, goes before the one given."""
        message, _, own = str(error).rstrip(".").partition(" — ")
        return cls(ERROR, message, own or remedy)

    def as_dict(self) -> dict[str, str]:
        """Return the fields as `--json` names them."""
        return {"check": self.check, "level": self.level, "told": self.message, "remedy": self.remedy}


def verdict(results: list[CheckResult]) -> str:
    """Return the worst level of all."""
    return max((result.level for result in results), key=(OK, WARNING, ERROR).index, default=OK)
