"""Turns what MLflow raises into a refusal or an outage, in one sentence with the address and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException, RetryError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pf_mlflow.errors import TrackingDown, TrackingError, TrackingForbidden, TrackingRefused
from pf_mlflow.settings import without_password

__all__ = ["told"]

_REFUSALS = {400, 404, 409}
_REMEDIES = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    403: "ask for the right to write to this experiment, or set MLFLOW_EXPERIMENT_NAME to another",
}
_UNUSABLE_DATABASE = (
    "unable to open database file",
    "readonly database",
    "file is not a database",
    "out-of-date database schema",
    "Can't locate revision",
)

P = ParamSpec("P")
T = TypeVar("T")


def told(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a method of an object with a `shown_uri`: it then raises nothing but `TrackingError`s."""

    @wraps(function)
    def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            raise _translated(error, str(getattr(args[0], "shown_uri", ""))) from error

    return telling


def _translated(error: Exception, uri: str) -> TrackingError:
    first = without_password(str(getattr(error, "message", error)).strip().partition("\n")[0])[:500]
    if isinstance(error, ImportError):
        return TrackingRefused(f"MLflow cannot use {uri}: {first} — install the package that is missing.")
    if isinstance(error, ArgumentError):
        return TrackingRefused(f"MLflow cannot use {uri}: {first} — mend MLFLOW_TRACKING_URI.")
    if any(text in first for text in _UNUSABLE_DATABASE):
        return TrackingRefused(f"MLflow cannot use {uri}: {first}")
    if not isinstance(error, MlflowException) or _is_unreachable(error):
        return TrackingDown(f"MLflow at {uri} cannot be reached: {first}")
    status = _status(error)
    remedy = f" — {_REMEDIES[status]}." if status in _REMEDIES else ""
    return _kind(status)(f"MLflow at {uri} answered {status}: {first}{remedy}")


def _kind(status: int) -> type[TrackingError]:
    if status in _REMEDIES:
        return TrackingForbidden
    return TrackingRefused if status in _REFUSALS else TrackingDown


def _is_unreachable(error: MlflowException) -> bool:
    cause = error.__cause__ or error.__context__
    return isinstance(cause, (RequestException, OSError)) and not isinstance(cause, RetryError)


def _status(error: MlflowException) -> int:
    if tried := re.search(r"too many (\d+) error responses", str(error.message)):
        return int(tried[1])
    try:
        return int(error.get_http_status_code())
    except (TypeError, ValueError):
        return 500
