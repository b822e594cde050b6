"""What every metric is, whether a formula, a user's function or a judge: a name, its needs and a function."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pf_mlflow.records.score import Score
from pf_mlflow.scoring.line_fields import LineFields

__all__ = ["Metric", "MissingLibrary", "library", "sentence"]


class MissingLibrary(Exception):
    """A package that a metric needs is not installed."""


@dataclass(frozen=True)
class Metric:
    """A metric of one line.

    Attributes:
        name: Its name in MLflow.
        needs: Names of the fields without which it cannot be given.
        function: Returns the value, or a whole `Score`; whatever it raises is the error of its score.
        unfit: Returns why it is not defined for a line that has its fields, or `None`.
        by_default: Whether lines get it that name no metrics.
        package: What must be installed for it, beside this package.
    """

    name: str
    needs: tuple[str, ...]
    function: Callable[[LineFields], Score | float | bool | str]
    unfit: Callable[[LineFields], str | None] = lambda fields: None
    by_default: bool = True
    package: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether what it needs can be imported."""
        return not self.package or importlib.util.find_spec(self.package.replace("-", "_")) is not None

    def why_not(self, fields: LineFields) -> str | None:
        """Return why a line cannot have this score; `None` where it can."""
        missing = [name for name in self.needs if not fields.has(name)]
        return f"needs {' and '.join(missing)}" if missing else self.unfit(fields)

    def score(self, fields: LineFields) -> Score:
        """Return the score of a line, whatever goes wrong."""
        try:
            if reason := self.why_not(fields):
                return Score(self.name, error=reason)
            given = self.function(fields)
        except MissingLibrary as error:
            return Score(self.name, error=f"{self.name} needs {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a metric's trouble is its own, never the line's
            return Score(self.name, error=sentence(error))
        return replace(given, name=self.name) if isinstance(given, Score) else Score(self.name, given)


def library(module: str, package: str) -> Any:
    """Import a module when it is needed; raise `MissingLibrary` with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingLibrary(f"`{package}`; install it with: pip install {package}") from error


def sentence(error: BaseException) -> str:
    """Return an error in the form `Type: message`."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error of the user's own that cannot tell what it is
        return type(error).__name__
