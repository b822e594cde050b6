"""Commands that start at once: processes forked from one that has imported the libraries, which takes others seconds.

Neither promptflow nor this package is among them, so each command still reads its environment and imports both.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys

_LIBRARIES = [
    *("aiohttp", "alembic.command", "azure.monitor.opentelemetry.exporter", "cryptography.fernet", "flask_restx"),
    *("jsonschema", "marshmallow", "mlflow.store.tracking.sqlalchemy_store", "oauthlib", "openai.types.responses"),
    *("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk.trace.export", "pandas"),
    *("pydantic_settings", "pydash", "requests", "rich.progress", "ruamel.yaml", "sqlalchemy.orm", "strictyaml"),
    *("tabulate", "tenacity", "tiktoken", "waitress"),
]
_OF_THE_INTERPRETER = {"LD_PRELOAD", "PYTHONPATH"}
"""Variables that are read when an interpreter starts: with them a command takes one of its own."""


class CommandServer:
    """The process that commands are forked from; it ends with whoever started it."""

    def __init__(self, folder: str | os.PathLike[str], env: dict[str, str]) -> None:
        import subprocess

        self._socket = os.path.join(folder, "socket")
        words = [sys.executable, __file__, "serve", self._socket]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, cwd=folder, env=env, stdin=pipe, stdout=pipe)
        self._is_ready = False

    def words(self, program: str) -> list[str]:
        """Return the command line that has a program run as if it were started itself."""
        if not self._is_ready:
            assert self._process.stdout and self._process.stdout.read(1), "the process for commands did not start"
            self._is_ready = True
        return [sys.executable, "-S", "-E", __file__, "run", self._socket, str(program)]

    def close(self) -> None:
        self._process.communicate(timeout=20)


def serve(path: str) -> None:
    """Fork a process for each command until the standard input is closed."""
    import gc
    import importlib

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
                return _attend(client)
            client.close()
            _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:  # none is left
        pass


def _attend(client: socket.socket) -> None:
    """Tell the client how its command ended, which a process of its own runs."""
    told, streams, _, _ = socket.recv_fds(client, 1 << 16, 3)
    while more := client.recv(1 << 16):
        told += more
    if pid := os.fork():
        client.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    client.close()
    _run(json.loads(told), streams)


def _run(call: dict[str, object], streams: list[int]) -> None:
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(str(call["folder"]))
    os.environ.clear()
    os.environ.update(call["env"])  # type: ignore[call-overload]
    sys.argv = call["words"]  # type: ignore[assignment]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")


def run(path: str, words: list[str]) -> int:
    """Have a command run with the folder, environment and streams of this process, and return its exit code."""
    if _OF_THE_INTERPRETER & os.environ.keys():
        os.execv(words[0], words)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        call = json.dumps({"words": words, "folder": os.getcwd(), "env": dict(os.environ)}).encode()
        sent = socket.send_fds(server, [call], [0, 1, 2])
        server.sendall(call[sent:])
        server.shutdown(socket.SHUT_WR)
        return int(server.recv(16))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))
