"""Servers in a process of their own, so that their work is not the measured process's: `python -m benchmarks.serve …`.

`llm` is the tests' fake model, `light-llm` one that costs little and tells when it was asked, `slow TARGET SECONDS`
hands requests on to a server and gives its answers late. Each prints its address and serves until its standard input
closes.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

from fake_llm import FakeLlm

from benchmarks import light_llm

__all__: list[str] = []


def main(what: str, *words: str) -> None:
    """Serve until nobody holds the other end of standard input any more."""
    if what == "light-llm":
        return light_llm.serve()
    print(FakeLlm().base_url if what == "llm" else _slow(words[0], float(words[1])), flush=True)
    sys.stdin.read()


def _slow(target: str, seconds: float) -> str:
    host = urlparse(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(seconds)
            upstream = http.client.HTTPConnection(host, timeout=60)
            upstream.request(self.command, self.path, body, {**self.headers, "Host": host})
            response = upstream.getresponse()
            data = response.read()
            upstream.close()
            self.send_response(response.status)
            self.send_header("Content-Type", response.getheader("Content-Type") or "application/json")
            self.send_header("Content-Length", str(len(data)))
            with suppress(ConnectionError):  # the client was ended meanwhile
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = _pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


if __name__ == "__main__":
    main(*sys.argv[1:])
