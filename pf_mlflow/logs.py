"""Tracking trouble never fails a line: it is logged where the batch's user looks."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pf_mlflow.errors import PfMlflowError

__all__ = ["guarded", "warn_into", "warn_once"]

P = ParamSpec("P")
T = TypeVar("T")


def guarded(fallback: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Tracking trouble never fails a line: log it once per kind and return `fallback`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever fails here is tracking's, and is logged
                warn_once(_sentence(function.__name__, error), error)
                return fallback  # type: ignore[no-any-return]

        return call

    return decorate


def _sentence(what: str, error: Exception) -> str:
    if isinstance(error, (OSError, sqlite3.Error)):
        return (
            f"{what}: the spool cannot be used ({error}); bring the batch into MLflow afterwards with `pf-mlflow sync`."
        )
    return f"{what}: {type(error).__name__}: {error}"


_warned: set[str] = set()
_find_logger: Callable[[], logging.Logger] = logging.getLogger


def warn_into(find_logger: Callable[[], logging.Logger]) -> None:
    """Let warnings go to the logger that is found when there is one to write: a batch's own."""
    global _find_logger
    _find_logger = find_logger


def warn_once(message: str, error: BaseException | None = None) -> None:
    """Write a sentence into the batch's log, unless this process has done so before."""
    if message not in _warned:
        _warned.add(message)
        expected = isinstance(error, (PfMlflowError, OSError, sqlite3.Error)) or error is None
        _find_logger().warning("pf-mlflow: %s", message, exc_info=None if expected else error)
