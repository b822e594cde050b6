"""Commands that start at once: processes forked from one that has imported the libraries, which takes others seconds.

Neither promptflow nor this package is among them, so each command still reads its environment and imports both. What a
command starts by `python -c`, as it does delivery, is forked too; promptflow's own processes are not.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_CLIENT = Path(__file__).with_name("command_client.py")
_LIBRARIES = [
    *("aiohttp", "alembic.command", "azure.monitor.opentelemetry.exporter", "cryptography.fernet", "flask_restx"),
    *("jsonschema", "marshmallow", "mlflow.store.tracking.sqlalchemy_store", "oauthlib", "openai.types.responses"),
    *("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk.trace.export", "pandas"),
    *("pydash", "requests", "rich.progress", "ruamel.yaml", "sqlalchemy.orm", "strictyaml"),
    *("tabulate", "tenacity", "tiktoken", "waitress"),
]


class CommandServer:
    """The process that commands are forked from; it ends with whoever started it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._socket = str(folder / "socket")
        words, pipe = [sys.executable, __file__, self._socket], subprocess.PIPE
        self._process = subprocess.Popen(words, cwd=folder, env=env, stdin=pipe, stdout=pipe)
        self._is_ready = False

    def words(self, *words: str) -> list[str]:
        """Return the command line that has a Python program run as if it were started itself."""
        if not self._is_ready:
            assert self._process.stdout and self._process.stdout.read(1), "the process for commands did not start"
            self._is_ready = True
        return [*_client(self._socket), *words]

    def close(self) -> None:
        """End it; what commands left running, as delivery processes, may hold its pipe for longer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._process.stdout.close()


def _client(path: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(_CLIENT), path]


def serve(path: str) -> None:
    """Fork a process for each command until the standard input is closed; return in each when it has run."""
    for library in _LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b".")
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _attend(client, path)
            client.close()
            _reap()


def _reap() -> None:
    with suppress(ChildProcessError):  # none is left
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _attend(client: socket.socket, path: str) -> None:
    """Tell the client how its command ended, which a process of its own runs; a client that is killed ends it."""
    length, streams, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as file:
        call = json.loads(file.read(int(length)))
    if pid := os.fork():
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(pid)
        if ended not in select.select([client, ended], [], [])[0]:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(OSError):
            client.send(b"%d" % code)
        os._exit(0)
    client.close()
    _become(call, streams, path)


def _become(call: dict[str, Any], streams: list[int], path: str) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["env"])
    _fork_interpreters(path)
    sys.argv = call["words"]
    if sys.argv[0] == "-c":
        sys.path[0] = ""
        exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")


def _fork_interpreters(path: str) -> None:
    """Have what this process starts by `python -c` run by the command server."""

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, args: Any, *more: Any, **named: Any) -> None:
            if list(args[:2]) == [sys.executable, "-c"]:
                args = [*_client(path), *args[1:]]
            super().__init__(args, *more, **named)

    subprocess.Popen = Popen  # type: ignore[misc]


if __name__ == "__main__":
    serve(sys.argv[1])
