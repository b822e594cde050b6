"""Turns what MLflow raises into a refusal or an outage, in one sentence with the address and the remedy."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException, RetryError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from pf_mlflow.errors import TrackingDown, TrackingError, TrackingForbidden, TrackingRefused
from pf_mlflow.settings import without_password

__all__ = ["ARTIFACTS", "capture_retry_after", "translated_errors", "translates_errors"]

_UNUSABLE_DATABASE = (
    "unable to open database file",
    "readonly database",
    "file is not a database",
    "out-of-date database schema",
    "Can't locate revision",
)
_LONGEST_RETRY_AFTER = 120.0
"""Seconds that a server may ask for; whoever waited for hours would be taken to hang."""

P = ParamSpec("P")
T = TypeVar("T")

_last_answer = threading.local()


def capture_retry_after() -> None:
    """Let this process note each `Retry-After`: MLflow's client drops the answer that it stands in."""
    increment: Any = Retry.increment
    if getattr(increment, "captures_retry_after", False):
        return

    def noting(self: Retry, *args: Any, response: Any = None, **more: Any) -> Retry:
        with suppress(InvalidHeader):
            seconds = self.get_retry_after(response) if response is not None else None
            _last_answer.retry_after = None if seconds is None else min(seconds, _LONGEST_RETRY_AFTER)
        retry: Retry = increment(self, *args, response=response, **more)
        return retry

    noting.captures_retry_after = True  # type: ignore[attr-defined]
    Retry.increment = noting  # type: ignore[method-assign, assignment]


@dataclass(frozen=True)
class _Failure:
    """What MLflow raised."""

    error: Exception
    reason: str
    """The first line of what it says, without passwords."""
    status: int | None
    """The HTTP status of an answer, `None` if there was none."""

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        reason = str(getattr(error, "message", error)).strip().partition("\n")[0]
        return cls(error, without_password(reason)[:500], _status(error))

    def is_a(self, *kinds: type[Exception]) -> bool:
        return isinstance(self.error, kinds)

    def says(self, *texts: str) -> bool:
        return any(text in self.reason for text in texts)


def _status(error: Exception) -> int | None:
    cause = error.__cause__ or error.__context__
    is_unreachable = isinstance(cause, (RequestException, OSError)) and not isinstance(cause, RetryError)
    if not isinstance(error, MlflowException) or is_unreachable:
        return None
    if tried := re.search(r"too many (\d+) error responses", str(error.message)):
        return int(tried[1])
    try:
        return int(error.get_http_status_code())
    except (TypeError, ValueError):
        return 500


_UNUSABLE = "MLflow cannot use {uri}: {reason}"
_ANSWERED = "MLflow at {uri} answered {status}: {reason}"
_LACKS_PACKAGE = f"{_UNUSABLE} — install the package that is missing."
_SET_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_ASK_FOR_RIGHT = "ask for the right to write to this experiment, or set MLFLOW_EXPERIMENT_NAME to another"

Rule = tuple[Callable[[_Failure], bool], type[TrackingError], str]
"""Whether it fits a failure, what that failure then means, and the sentence that says so."""
_ANSWERS: Sequence[Rule] = (
    (lambda it: it.status == 401, TrackingForbidden, f"{_ANSWERED} — {_SET_LOGIN}."),
    (lambda it: it.status == 403, TrackingForbidden, f"{_ANSWERED} — {_ASK_FOR_RIGHT}."),
    (lambda it: it.status in (400, 404, 409), TrackingRefused, _ANSWERED),
    (lambda it: True, TrackingDown, _ANSWERED),
)
_TRACKING: Sequence[Rule] = (
    (lambda it: it.is_a(ImportError), TrackingRefused, _LACKS_PACKAGE),
    (lambda it: it.is_a(ArgumentError), TrackingRefused, f"{_UNUSABLE} — mend MLFLOW_TRACKING_URI."),
    (lambda it: it.says(*_UNUSABLE_DATABASE), TrackingRefused, _UNUSABLE),
    (lambda it: it.status is None, TrackingDown, "MLflow at {uri} cannot be reached: {reason}"),
    *_ANSWERS,
)
"""Rules for runs and experiments; the first that fits holds."""
ARTIFACTS: Sequence[Rule] = (
    (lambda it: it.is_a(ImportError), TrackingRefused, _LACKS_PACKAGE),
    (lambda it: it.status is None, TrackingDown, "Artifacts of MLflow at {uri} cannot be reached: {reason}"),
    *_ANSWERS,
)
"""Rules for files of runs, which lie elsewhere; the first that fits holds."""


def translates_errors(method: Callable[P, T]) -> Callable[P, T]:
    """Decorate a method of an object with a `shown_uri`: it then raises nothing but `TrackingError`s."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        with translated_errors(str(getattr(args[0], "shown_uri", ""))):
            return method(*args, **kwargs)

    return guarded


@contextmanager
def translated_errors(uri: str, rules: Sequence[Rule] = _TRACKING) -> Iterator[None]:
    """Let nothing but `TrackingError`s out of what asks a store; `ARTIFACTS` are the rules for files of runs."""
    _last_answer.retry_after = None
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        raise _translated(_Failure.of(error), uri, rules) from error


def _translated(failure: _Failure, uri: str, rules: Sequence[Rule]) -> TrackingError:
    kind, sentence = next((kind, sentence) for fits, kind, sentence in rules if fits(failure))
    message = sentence.format(uri=uri, reason=failure.reason, status=failure.status)
    if kind is TrackingDown and failure.status is not None:
        return TrackingDown(message, _last_answer.retry_after)
    return kind(message)
