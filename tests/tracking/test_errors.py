from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, RESOURCE_DOES_NOT_EXIST
from sqlalchemy.exc import ArgumentError, OperationalError
from urllib3.util.retry import Retry

from pf_mlflow.errors import RequestRejected, TrackingDown, TrackingError, TrackingForbidden, TrackingRefused
from pf_mlflow.tracking.errors import capture_answers, translates_errors
from pf_mlflow.tracking.writer import StoreWriter


class Answering:
    """A server that answers every request alike."""

    def __init__(self) -> None:
        self.status, self.retry_after, self.body = 503, [""], b"slow down"
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                for value in filter(None, outer.retry_after):
                    self.send_header("Retry-After", value)
                self.end_headers()
                self.wfile.write(outer.body)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    answering = Answering()
    thread = threading.Thread(target=answering.server.serve_forever, args=(0.01,))
    thread.start()
    yield answering
    answering.server.shutdown()
    answering.server.server_close()
    thread.join()


@pytest.fixture
def store(answering: Answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreWriter:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return StoreWriter(answering.uri, "jokes", tmp_path)


def retry_after(store: StoreWriter) -> float | None:
    with pytest.raises(TrackingDown) as raised:
        store.open_experiment()
    return raised.value.retry_after


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "asked, expected",
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("nan", None),
        ("Sat, 99 Nov 2026", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
    ],
)
def test_what_a_server_asks_for_is_captured(
    answering: Answering, store: StoreWriter, status: int, asked: str, expected: float | None
) -> None:
    answering.status, answering.retry_after = status, [asked]
    before = answering.requests
    assert retry_after(store) == expected
    assert answering.requests == before + 1  # MLflow's client itself does not try again


def test_a_date_counts_as_the_seconds_until_then(answering: Answering, store: StoreWriter) -> None:
    answering.status, answering.retry_after = 429, [formatdate(time.time() + 60, usegmt=True)]
    assert (retry_after(store) or 0.0) == pytest.approx(60, abs=3)


@pytest.mark.parametrize("asked", ["86400", "9" * 400, "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_nobody_can_ask_for_more_than_two_minutes(answering: Answering, store: StoreWriter, asked: str) -> None:
    answering.status, answering.retry_after = 429, [asked]
    assert retry_after(store) == 120.0


def test_what_one_answer_asked_for_holds_for_no_other(answering: Answering, store: StoreWriter) -> None:
    answering.status = 429
    asked_for = []
    for asked in ("7", "", "8", "soon"):
        answering.retry_after = [asked]
        asked_for.append(retry_after(store))
    assert asked_for == [7.0, None, 8.0, None]


def test_it_is_captured_by_the_thread_that_asked(answering: Answering, store: StoreWriter) -> None:
    answering.status, answering.retry_after = 429, ["9"]
    assert retry_after(store) == 9.0
    others: list[float | None] = []
    answering.retry_after = [""]
    thread = threading.Thread(target=lambda: others.append(retry_after(store)))
    thread.start()
    thread.join()
    assert others == [None]


def test_listening_twice_is_listening_once() -> None:
    capture_answers()
    once = Retry.increment, Retry.is_retry
    capture_answers()
    assert (Retry.increment, Retry.is_retry) == once


OWN = b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "not this one"}'
AWAY = b'{"error_code": "BAD_REQUEST", "message": "(psycopg2.InterfaceError) connection already closed"}'
BUSY = b'{"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5 overflow 10 reached"}'
PAGE = b"<html>\n<h1>Sign in</h1></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (400, OWN, TrackingRefused, "answered 400: INVALID_PARAMETER_VALUE: not this one"),
        (400, AWAY, TrackingDown, "answered 400: BAD_REQUEST: (psycopg2.InterfaceError) connection already closed"),
        (400, BUSY, TrackingDown, "answered 400: BAD_REQUEST: QueuePool limit of size 5 overflow 10 reached"),
        (404, PAGE, TrackingDown, "answered 404: no answer of MLflow's: <html> <h1>Sign in</h1></html>"),
        (404, b'{"error_code": "RESOURCE_DOES', TrackingDown, "answered 404: no answer of MLflow's"),
        (404, b'{"detail": "Not Found"}', TrackingDown, "answered 404: INTERNAL_ERROR: Response: {'detail'"),
        (200, PAGE, TrackingDown, "answered 200: no answer of MLflow's: <html>"),
        (200, b'{"experiment": 7}', TrackingDown, "answered 200"),
        (405, PAGE, TrackingDown, "answered 405"),
        (503, PAGE, TrackingDown, "answered 503"),
        (413, PAGE, RequestRejected, "answered 413"),
        (413, b'{"message": "Request Too Long"}', RequestRejected, "answered 413"),
        (414, PAGE, RequestRejected, "answered 414"),
        (422, PAGE, RequestRejected, "answered 422"),
        (400, PAGE, RequestRejected, "answered 400"),
        (401, b"You are not authenticated.", TrackingForbidden, "MLFLOW_TRACKING_USERNAME"),
        (403, b"Permission denied", TrackingForbidden, "ask for the right"),
    ],
)
def test_what_is_final_is_told_by_mlflow_itself(
    answering: Answering, store: StoreWriter, status: int, body: bytes, kind: type[TrackingError], sentence: str
) -> None:
    answering.status, answering.body, answering.retry_after = status, body, [""]
    with pytest.raises(TrackingError) as raised:
        store.open_experiment()
    assert type(raised.value) is kind and sentence in str(raised.value) and "\n" not in str(raised.value)


class Store:
    shown_uri = "http://ana:***@host"

    @translates_errors
    def fails(self, error: Exception) -> None:
        raise error


def chained(message: str, cause: Exception) -> MlflowException:
    error = MlflowException(message)
    error.__cause__ = cause
    return error


CLOSED = MlflowException("(psycopg.InterfaceError) the connection is closed", BAD_REQUEST)
LOCKED = OperationalError("INSERT", {}, Exception("database is locked"))


@pytest.mark.parametrize(
    "error, kind, sentence",
    [
        (MlflowException("busy"), TrackingDown, "answered 500: busy"),
        (MlflowException("no such run", RESOURCE_DOES_NOT_EXIST), TrackingRefused, "answered 404: no such run"),
        (MlflowException("two\nlines of it"), TrackingDown, "answered 500: two"),
        (chained("gone", ConnectionResetError("by peer")), TrackingDown, "cannot be reached: gone"),
        (CLOSED, TrackingDown, "answered 400: (psycopg.InterfaceError) the connection is closed"),
        (LOCKED, TrackingDown, "cannot be reached: "),
        (MlflowException("Detected out-of-date database schema"), TrackingRefused, "MLflow cannot use"),
        (MlflowException("attempt to write a readonly database"), TrackingRefused, "MLflow cannot use"),
        (ArgumentError("Could not parse"), TrackingRefused, "mend MLFLOW_TRACKING_URI"),
        (ModuleNotFoundError("No module named 'psycopg'"), TrackingRefused, "install the package"),
        (PermissionError("read-only file system"), TrackingDown, "cannot be reached"),
        (MlflowException("at http://ana:hunter22@host/x"), TrackingDown, "at http://ana:***@host/x"),
    ],
)
def test_what_mlflow_raises_becomes_one_sentence(error: Exception, kind: type[TrackingError], sentence: str) -> None:
    with pytest.raises(TrackingError) as raised:
        Store().fails(error)
    assert type(raised.value) is kind and raised.value.__cause__ is error
    assert sentence in str(raised.value) and "http://ana:***@host" in str(raised.value)
    assert "\n" not in str(raised.value) and "hunter22" not in str(raised.value)


@pytest.mark.parametrize("error", [KeyError("a bug"), TrackingRefused("told already"), ZeroDivisionError()])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        Store().fails(error)
    assert raised.value is error
