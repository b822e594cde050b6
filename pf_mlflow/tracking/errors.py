"""Turns what MLflow raises into a refusal or an outage, in one sentence with the address and the remedy."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException, RetryError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from pf_mlflow.errors import TrackingDown, TrackingError, TrackingForbidden, TrackingRefused
from pf_mlflow.settings import without_password

__all__ = ["hear_retry_after", "telling", "told"]

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

_LONGEST_ASKED = 120.0
"""Seconds that a server may ask for; whoever waited for hours would be taken to hang."""

P = ParamSpec("P")
T = TypeVar("T")

_heard = threading.local()


def hear_retry_after() -> None:
    """Let this process note each `Retry-After`: MLflow's client drops the answer that it stands in."""
    increment: Any = Retry.increment
    if getattr(increment, "hears", False):
        return

    def noting(self: Retry, *args: Any, response: Any = None, **more: Any) -> Retry:
        with suppress(InvalidHeader):
            asked = self.get_retry_after(response) if response is not None else None
            _heard.seconds = None if asked is None else min(asked, _LONGEST_ASKED)
        retry: Retry = increment(self, *args, response=response, **more)
        return retry

    noting.hears = True  # type: ignore[attr-defined]
    Retry.increment = noting  # type: ignore[method-assign, assignment]


def told(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a method of an object with a `shown_uri`: it then raises nothing but `TrackingError`s."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        with telling(str(getattr(args[0], "shown_uri", ""))):
            return function(*args, **kwargs)

    return guarded


@contextmanager
def telling(uri: str) -> Iterator[None]:
    """Let nothing but `TrackingError`s out of a block that asks the store at an address."""
    _heard.seconds = None
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        raise _translated(error, uri) from error


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
    sentence = f"MLflow at {uri} answered {status}: {first}"
    if status in _REMEDIES:
        return TrackingForbidden(f"{sentence} — {_REMEDIES[status]}.")
    return TrackingRefused(sentence) if status in _REFUSALS else TrackingDown(sentence, _heard.seconds)


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
