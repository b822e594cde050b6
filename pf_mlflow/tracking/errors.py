"""Turns what MLflow raises into a refusal or an outage, in one sentence with the address and the remedy."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode
from requests.exceptions import RequestException, RetryError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from pf_mlflow.errors import (
    ArtifactsFailed,
    RequestRejected,
    TrackingDown,
    TrackingError,
    TrackingForbidden,
    TrackingRefused,
)
from pf_mlflow.settings import without_password
from pf_mlflow.tracking.address import remedy_of

__all__ = ["artifact_errors", "capture_answers", "translated_errors", "translates_errors"]

_UNUSABLE_DATABASE = (
    "unable to open database file",
    "readonly database",
    "file is not a database",
    "out-of-date database schema",
    "Can't locate revision",
    "malformed",
)
_NO_STORE = (
    "filesystem tracking backend",
    "Unity Catalog tracking URI",
    "credential configuration failed",
)
_DATABASE_AWAY = re.compile(
    r"\((?:\w+\.)+(?:InterfaceError|OperationalError|InternalError|DatabaseError)\)|QueuePool limit"
    r"|until invalid transaction is rolled back"
)
"""What MLflow says as a bad request when its database is away, or busy: not of the request."""
_MOVED = 301
_REDIRECTS = (_MOVED, 302, 303)
"""The statuses at which a client asks elsewhere, and not what it was to ask, unless that was a GET."""
_FULL = ("disk is full", "No space left on device")
_LONGEST_RETRY_AFTER = 120.0
"""Seconds that a server may ask for; whoever waited for hours would be taken to hang."""

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_last_answer = threading.local()


def capture_answers() -> None:
    """Let this process note each answer's status and `Retry-After`: MLflow's client drops them."""
    increment: Any = Retry.increment
    if getattr(increment, "captures_answers", False):
        return
    is_retry = Retry.is_retry

    def noting(self: Retry, *args: Any, response: Any = None, **more: Any) -> Retry:
        with suppress(InvalidHeader):
            seconds = self.get_retry_after(response) if response is not None else None
            _last_answer.retry_after = None if seconds is None else min(seconds, _LONGEST_RETRY_AFTER)
        retry: Retry = increment(self, *args, response=response, **more)
        return retry

    def noting_status(self: Retry, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        _last_answer.status = status_code
        if method not in ("GET", "HEAD"):
            _last_answer.redirect = status_code if status_code in _REDIRECTS else None
        return is_retry(self, method, status_code, has_retry_after)

    noting.captures_answers = True  # type: ignore[attr-defined]
    Retry.increment = noting  # type: ignore[method-assign, assignment]
    Retry.is_retry = noting_status  # type: ignore[method-assign]


def _forget_last_answer() -> None:
    _last_answer.retry_after = _last_answer.status = None
    _last_answer.redirect = None


_ERRNO = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
_SSL = re.compile(r"\[SSL: \w+\] ([^()\"']*)")
_CAUSED_BY = re.compile(r"\(Caused by \w+\([\"'](?:\w+\(.*?\): )?([^\"']+)")


@dataclass(frozen=True)
class _Failure:
    """What MLflow raised."""

    error: Exception
    reason: str
    """The first line of what it says, without passwords."""
    status: int | None
    """The HTTP status of an answer, `None` if there was none."""
    is_mlflows: bool
    """Whether MLflow itself has answered, and not what stands before it."""
    has_moved: bool = False
    """Whether an address was given to ask instead, at which the request could not be asked."""

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        text = str(getattr(error, "message", error)).strip()
        if body := re.search(r"Response body: '(.*)", text, re.DOTALL):
            text = f"no answer of MLflow's: {' '.join(body[1].split())[:200]}"
        origin = getattr(error, "orig", None) or getattr(error.__cause__ or error.__context__, "orig", None)
        if origin and str(origin) in text:  # SQLAlchemy says it last
            text = str(origin)
        if "Max retries exceeded" in text:
            text = _cause(text)
        reason = without_password(text.partition("\n")[0])[:500]
        return cls(error, reason, *_answer(error), getattr(_last_answer, "redirect", None) == _MOVED)

    def is_a(self, *kinds: type[Exception]) -> bool:
        return isinstance(self.error, kinds)

    def says(self, *texts: str) -> bool:
        return any(text in self.reason for text in texts)


def _cause(text: str) -> str:
    """Return why urllib3 could not connect, out of the four names of classes around it."""
    found = _ERRNO.search(text) or _SSL.search(text) or _CAUSED_BY.search(text)
    cause = found[1].strip() if found else text
    return f"its proxy: {cause}" if "ProxyError(" in text else cause


def _answer(error: Exception) -> tuple[int | None, bool]:
    """Return the status of an answer, and whether it was MLflow's own."""
    cause = error.__cause__ or error.__context__
    is_unreachable = isinstance(cause, (RequestException, OSError)) and not isinstance(cause, RetryError)
    status: int | None = getattr(_last_answer, "status", None)
    if not isinstance(error, MlflowException) or is_unreachable:
        return (status, False) if isinstance(error, ParseError) else (None, False)
    is_own = isinstance(error, RestException) and error.json.get("error_code") in ErrorCode.keys()
    return (int(error.get_http_status_code()), True) if status is None or is_own else (status, False)


_UNUSABLE = "MLflow cannot use {uri}: {reason}"
_UNREACHED = "MLflow at {uri} cannot be reached: {reason}"
_NAME_CA = "let REQUESTS_CA_BUNDLE or MLFLOW_TRACKING_SERVER_CERT_PATH name a file with its CA"
_MEND_PROXY = "mend HTTP_PROXY and HTTPS_PROXY, or let NO_PROXY name the host"
_OTHER_NAME = "MLflow at {uri} refuses the name that it is asked by (Invalid Host header)"
_ALLOW_NAME = "start its server with `--allowed-hosts {host}`"
_ANSWERED = "MLflow at {uri} answered {status}: {reason}"
_HAS_MOVED = (
    f"MLflow is not at {{uri}}, which answered {_MOVED}, moved permanently — let MLFLOW_TRACKING_URI name the address "
    "at which a browser ends that is sent there, such as one that begins with https://."
)
_NAME_ANOTHER = "let MLFLOW_TRACKING_URI name another store"
_LACKS_PACKAGE = f"{_UNUSABLE} — install the package that is missing."
_SET_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_ASK_FOR_RIGHT = "ask for the right to write to this experiment, or set MLFLOW_EXPERIMENT_NAME to another"

Rule = tuple[Callable[[_Failure], bool], type[TrackingError], str]
"""Whether it fits a failure, what that failure then means, and the sentence that says so."""
_ANSWERS: Sequence[Rule] = (
    (lambda it: it.says("Invalid Host header"), TrackingRefused, f"{_OTHER_NAME} — {_ALLOW_NAME}."),
    (lambda it: it.has_moved, TrackingRefused, _HAS_MOVED),
    (lambda it: bool(_DATABASE_AWAY.search(str(it.error))), TrackingDown, _ANSWERED),
    (lambda it: it.status == 401, TrackingForbidden, f"{_ANSWERED} — {_SET_LOGIN}."),
    (lambda it: it.status == 403, TrackingForbidden, f"{_ANSWERED} — {_ASK_FOR_RIGHT}."),
    (lambda it: it.is_mlflows and it.status in (400, 404, 409), TrackingRefused, _ANSWERED),
    (lambda it: it.status in (400, 413, 414, 422, 431), RequestRejected, _ANSWERED),
    (lambda it: True, TrackingDown, _ANSWERED),
)
_TRACKING: Sequence[Rule] = (
    (lambda it: it.is_a(ImportError), TrackingRefused, _LACKS_PACKAGE),
    (lambda it: it.is_a(ArgumentError), TrackingRefused, f"{_UNUSABLE} — mend MLFLOW_TRACKING_URI."),
    (lambda it: it.says(*_UNUSABLE_DATABASE), TrackingRefused, f"{_UNUSABLE} — {_NAME_ANOTHER}."),
    (
        lambda it: it.says("unsupported URI"),
        TrackingRefused,
        "MLflow takes no runs at {uri}, of whose kind it knows no store — {remedy}.",
    ),
    (lambda it: it.says(*_NO_STORE), TrackingRefused, "MLflow takes no runs at {uri}: {brief} — {remedy}."),
    (lambda it: it.says(*_FULL), TrackingDown, "The disk of MLflow at {uri} is full: {reason}"),
    (lambda it: it.says("certificate verify failed"), TrackingDown, f"{_UNREACHED} — {_NAME_CA}."),
    (lambda it: it.says("its proxy: "), TrackingDown, f"{_UNREACHED} — {_MEND_PROXY}."),
    (lambda it: it.status is None, TrackingDown, _UNREACHED),
    *_ANSWERS,
)
"""The first that fits holds."""


def translates_errors(method: Callable[P, T]) -> Callable[P, T]:
    """Decorate a method of an object with a `shown_uri`: it then raises nothing but `TrackingError`s."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        with translated_errors(str(getattr(args[0], "shown_uri", ""))):
            return method(*args, **kwargs)

    return guarded


@contextmanager
def translated_errors(uri: str) -> Iterator[None]:
    """Let nothing but `TrackingError`s out of what asks a store for runs and experiments."""
    _forget_last_answer()
    try:
        yield
    except (MlflowException, ParseError, SQLAlchemyError, ImportError, OSError) as error:
        raise _translated(_Failure.of(error), uri) from error


@contextmanager
def artifact_errors(uri: str) -> Iterator[None]:
    """Let nothing but `ArtifactsFailed` out of what asks for files of runs."""
    _forget_last_answer()
    try:
        yield
        if status := _last_answer.redirect:  # whose page is no error to the client
            raise ConnectionError(f"the request was redirected ({status}), as to a login")
    except Exception as error:  # each store of files has a client library of its own
        log.info("artifacts at %s", uri, exc_info=True)
        failure = _Failure.of(error)
        may_pass = failure.is_a(RequestException) or (failure.status or 0) >= 429
        message = f"Artifacts of MLflow at {uri} cannot be used: {failure.reason}"
        raise ArtifactsFailed(message, failure.reason, may_pass) from error


def _translated(failure: _Failure, uri: str) -> TrackingError:
    kind, sentence = next((kind, sentence) for fits, kind, sentence in _TRACKING if fits(failure))
    brief = failure.reason.partition(". ")[0]
    host = re.sub(r"^\w+://(?:[^/@]*@)?|[:/].*$", "", uri)
    named = {"uri": uri, "host": host, "brief": brief, "remedy": remedy_of(uri)}
    message = sentence.format(reason=failure.reason, status=failure.status, **named)
    message += "" if message.endswith((".", "!", "?")) else "."
    if issubclass(kind, TrackingDown) and failure.status is not None:
        return kind(message, _last_answer.retry_after)
    return kind(message)
