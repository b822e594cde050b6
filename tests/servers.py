"""MLflow servers, a database behind one, and a proxy in front that counts and can say no."""

from __future__ import annotations

import base64
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest

SHARE, SLOW, LATE_BY = 0.3, 10.0, 4.0
_NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes more that nothing here needs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class MlflowServer:
    """An `mlflow server` that can be killed and started again at the same address."""

    def __init__(self, database: str, folder: Path) -> None:
        self._port = free_port()
        self._log = folder / "server.log"
        self._words = ["server", "--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]
        self._words += ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [Path(sys.executable).parent / "mlflow", *self._words]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._log.parent, env=os.environ | _NO_JOBS, start_new_session=True
            )
        _await(f"{self.uri}/health", self._process, self._log)

    def kill(self) -> None:
        """Kill it with all its processes, as a power cut would."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
            self._process = None


@contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[str]:
    server = MlflowServer(database, folder)
    try:
        server.start()
        yield server.uri
    finally:
        server.kill()


def _await(url: str, process: subprocess.Popen[bytes], log: Path, patience: float = 90.0) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"no server at {url}: {log.read_text('utf-8')[-2000:]}")


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of the `pgserver` wheel, which stops at Python 3.12."""
    pgserver = pytest.importorskip("pgserver")
    folder = tempfile.mkdtemp(dir="/tmp", prefix="pg")  # its user must reach it, which a private folder prevents
    os.chmod(folder, 0o755)
    database = pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield database.get_uri()
    finally:
        database.cleanup()


class CountingProxy:
    """Hands requests on to a server and counts them; it can say no, lose answers, and be late."""

    def __init__(self, target: str) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.answer: int | None = None
        """This status is the answer to everything; 404 comes with a page, as of a proxy that has lost its server."""
        self.redirects: tuple[int, str] | None = None
        """With this status requests whose path has this part are sent to the server itself, or 302 to another page."""
        self.refused: bytes | None = None
        """A `log-batch` with this text in it is answered with `refusal`."""
        self.refusal: tuple[int, bytes] = (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "not this one"}')
        self.twice: Counter[str] = Counter()
        """How many requests of a kind are handed on twice; of the answers only the second is passed on."""
        self.login: str | None = None
        """Only requests with this `user:password` are handed on."""
        self.logins: set[str | None] = set()
        """What requests came with as `Authorization`."""
        self.forbidden: set[str] = set()
        """These kinds of requests are answered 403."""
        self.lost: Counter[str] = Counter()
        """How many answers to a kind of request, such as `runs/create`, get lost after the work was done."""
        self.late: Counter[str] = Counter()
        """How many requests to make a `parent` or a `line` are cut off, and handed on `LATE_BY` seconds afterwards."""
        self.fault: str | None = None
        """What befalls `SHARE` of the requests: `500`, `429`, `slow`, or `cut` when the work was done."""
        self.faults = 0
        self._target = target
        self._dice = random.Random(7)
        outer, host = self, urlparse(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, urlparse(self.path).path, body))
                kind = urlparse(self.path).path.rpartition("/mlflow/")[2]
                outer.logins.add(self.headers.get("Authorization"))
                fault = outer._fault()
                if refusal := outer._refusal(self.path, body, fault, self.headers.get("Authorization")):
                    return self._reply(*refusal)
                if kind == "runs/create" and outer._take(outer.late, "line" if b"parentRunId" in body else "parent"):
                    threading.Timer(LATE_BY, self._hand_on, [body]).start()
                    return self._cut()
                answered = [self._hand_on(body) for _ in range(1 + outer._take(outer.twice, kind))][-1]
                if fault == "slow":
                    time.sleep(SLOW)
                return self._cut() if fault == "cut" or outer._take(outer.lost, kind) else self._reply(*answered)

            def _hand_on(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
                upstream = http.client.HTTPConnection(host, timeout=60)
                upstream.request(self.command, self.path, body, {**self.headers, "Host": host})
                response = upstream.getresponse()
                data = response.read()
                upstream.close()
                return response.status, data, {"Content-Type": response.getheader("content-type", "application/json")}

            def _cut(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def _reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def _knows(self, authorization: str | None) -> bool:
        given = base64.b64decode((authorization or "").removeprefix("Basic ")).decode()
        return self.login is None or given == self.login

    def _fault(self) -> str | None:
        struck = self.fault is not None and self._dice.random() < SHARE
        self.faults += struck
        return self.fault if struck else None

    def _refusal(
        self, path: str, body: bytes, fault: str | None, login: str | None
    ) -> tuple[int, bytes, dict[str, str]] | None:
        kind = urlparse(path).path.rpartition("/mlflow/")[2]
        if self.redirects and self.redirects[1] in path:
            status = self.redirects[0]
            return status, b"", {"Location": f"{self._target}{'/health' if status == 302 else path}"}
        if not self._knows(login):
            return 401, b"You are not authenticated.", {"WWW-Authenticate": "Basic"}
        if self.refused and self.refused in body and kind == "runs/log-batch":
            return *self.refusal, {}
        status = 403 if kind in self.forbidden else self.answer or (int(fault) if fault in ("429", "500") else 0)
        hint = {"Retry-After": "1"} if status == 429 and self.faults % 2 else {}
        told = b'{"error_code": "%s", "message": "no"}' % _CODES[status] if status in _CODES else b"<html>no</html>"
        return (status, told, hint) if status else None

    def _take(self, counter: Counter[str], kind: str) -> bool:
        if counter[kind] <= 0:
            return False
        counter[kind] -= 1
        return True

    def counted(self) -> Counter[str]:
        return Counter(path.rpartition("/mlflow/")[2] for _, path, _ in self.requests)

    def __enter__(self) -> CountingProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


_CODES = {
    401: b"UNAUTHENTICATED",
    403: b"PERMISSION_DENIED",
    429: b"REQUEST_LIMIT_EXCEEDED",
    500: b"INTERNAL_ERROR",
}
