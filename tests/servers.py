"""MLflow servers, a database behind one, and a proxy in front that counts and can say no."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def mlflow_server(database: str, folder: Path, port: int | None = None) -> Iterator[str]:
    port = port or free_port()
    words = ["server", "--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([Path(sys.executable).parent / "mlflow", *words], stdout=log, stderr=log, cwd=folder)
    try:
        _await(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


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
    """Hands requests on to a server and counts them; `answer` set to a status says no instead."""

    def __init__(self, target: str) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.answer: int | None = None
        self.refused: bytes | None = None
        """A `log-batch` with this text in it is answered 400."""
        self.lost: Counter[str] = Counter()
        """How many answers to a kind of request, such as `runs/create`, get lost after the work was done."""
        outer, host = self, urlparse(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, urlparse(self.path).path, body))
                if outer.refused and outer.refused in body and self.path.endswith("log-batch"):
                    return self._reply(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "not this one"}', {})
                if outer.answer:
                    return self._reply(
                        outer.answer, b'{"error_code": "%s", "message": "no"}' % _CODES[outer.answer], {}
                    )
                upstream = http.client.HTTPConnection(host, timeout=60)
                upstream.request(self.command, self.path, body, {**self.headers, "Host": host})
                response = upstream.getresponse()
                data = response.read()
                kind = urlparse(self.path).path.rpartition("/mlflow/")[2]
                if outer.lost[kind] > 0:
                    outer.lost[kind] -= 1
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                self._reply(response.status, data, dict(response.getheaders()))
                upstream.close()

            def _reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                self.send_header("Content-Type", headers.get("content-type", "application/json"))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = _pass

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def counted(self) -> Counter[str]:
        return Counter(path.rpartition("/mlflow/")[2] for _, path, _ in self.requests)

    def __enter__(self) -> CountingProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


_CODES = {401: b"UNAUTHENTICATED", 403: b"PERMISSION_DENIED", 500: b"INTERNAL_ERROR"}
