"""Opens MLflow's UI on the store that a batch is in: a server's own pages, or a database's, served on this machine."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.request import ProxyHandler, build_opener

from pf_mlflow.errors import BadInput, TrackingRefused
from pf_mlflow.records.batch import Batch
from pf_mlflow.reports.batch_lookup import find_batch
from pf_mlflow.settings import Settings, absolute_store, store_address, without_password
from pf_mlflow.sources.promptflow.store_access import access_to_store_of
from pf_mlflow.spool.processes import end_session
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.links import batches_link, is_database, run_link, store_link

__all__ = ["DEFAULT_PORT", "Server", "Target", "chosen_port", "chosen_target", "serve"]

DEFAULT_PORT = 5000
_HOST = "127.0.0.1"
_DIRECT = build_opener(ProxyHandler({}))
"""Asks without the proxy of the environment, which does not reach this machine."""
_PATIENCE = 90.0
"""Seconds that MLflow's server gets to start."""


@dataclass(frozen=True)
class Target:
    """What to show: a store, and the run of a batch in it, the newest where none is named."""

    tracking_uri: str
    """With its password, if there is one."""
    batch: str | None = None
    experiment_id: str | None = None
    run_id: str | None = None

    @property
    def shown_uri(self) -> str:
        """The tracking URI as it may be printed."""
        return without_password(self.tracking_uri)

    @property
    def sqlite_file(self) -> Path | None:
        """The file of the store, `None` if it is no SQLite database."""
        from pf_mlflow.tracking.database import sqlite_path

        return sqlite_path(self.tracking_uri)

    @property
    def needs_server(self) -> bool:
        """Whether somebody has to serve the store's pages."""
        return is_database(self.tracking_uri)

    def link(self, server: str | None = None) -> str | None:
        """Return the address of the page with the batches, else of the store's; `server`: who serves a database."""
        uri = server or self.tracking_uri
        own = run_link(uri, self.experiment_id, self.run_id)
        return batches_link(own) if own else store_link(uri)


def chosen_target(spool: Spool, settings: Settings, name: str | None, folder: Path) -> Target:
    """Return the batch of a name, else the store of the settings, of the folder, or of the newest batch.

    Raises:
        BadInput: nobody knows the name; there is no store.
        TrackingError: a store cannot be used, or not be reached.
    """
    target = _named(spool, settings, name) if name is not None else _at_hand(spool, settings, folder)
    if target.needs_server:
        from pf_mlflow.tracking.reader import StoreReader

        if (path := target.sqlite_file) and not path.is_file():
            raise BadInput(
                f"{target.shown_uri} does not exist; name another store in MLFLOW_TRACKING_URI, or run a batch."
            )
        reader = StoreReader(target.tracking_uri, "", spool.folder)
        reader.open()
        if target.batch is None and (newest := reader.newest_batch()):
            return replace(target, experiment_id=newest[0], run_id=newest[1])
    return target


def _named(spool: Spool, settings: Settings, name: str) -> Target:
    found = find_batch(spool, settings, name)
    experiment_id, run_id = found.experiment_id, found.parent_run_id
    if not run_id:
        from pf_mlflow.tracking.reader import StoreReader

        reader = StoreReader(found.tracking_uri, found.batch.experiment, spool.folder)
        with access_to_store_of(found.batch, settings):
            reader.open_experiment()
            experiment_id, run_id = reader.experiment_id, reader.parent_id(found.batch.uid)
    return Target(found.tracking_uri, name, experiment_id, run_id)


def _at_hand(spool: Spool, settings: Settings, folder: Path) -> Target:
    newest = spool.newest()
    if settings.tracking_uri:
        return Target(settings.tracking_uri, **_place_of(spool, newest, settings.tracking_uri))
    if (folder / "mlflow.db").is_file():
        return Target(absolute_store("sqlite:///mlflow.db", folder))
    if newest is None:
        raise BadInput(
            f"There is nothing to show: no batch has run yet, and there is no mlflow.db in {folder}; "
            "run one with `pf-mlflow run`, or set MLFLOW_TRACKING_URI."
        )
    return _named(spool, settings, newest.name) if newest.name else Target(newest.tracking_uri, "single runs")


def _place_of(spool: Spool, newest: Batch | None, tracking_uri: str) -> dict[str, Any]:
    """Return where the newest batch is in a store, as far as that is known here; nothing if it is in another."""
    state = newest and spool.state(newest.uid)
    if not state or store_address(state.batch.tracking_uri) != store_address(tracking_uri):
        return {}
    return {"experiment_id": state.experiment_id, "run_id": state.parent_run_id}


def chosen_port(wanted: int | None) -> int:
    """Return a free port: the wanted one, else the first from 5000 on.

    Raises:
        BadInput: the wanted one cannot be used.
    """
    if wanted is not None:
        _try_port(wanted)
        return wanted
    for port in range(DEFAULT_PORT, DEFAULT_PORT + 100):
        with suppress(BadInput):
            _try_port(port)
            return port
    raise BadInput(f"Ports {DEFAULT_PORT} to {port} are all taken; name another with --port.")


def _try_port(port: int) -> None:
    with socket.socket() as probe:
        if os.name == "posix":  # what a server left a moment ago may be used again, as MLflow will
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise BadInput(f"Port {port} cannot be used: {error.strerror}; name another with --port.") from error


@dataclass
class StopRequest:
    """Whether somebody asked this process to end."""

    made: bool = False


@contextmanager
def _noted_signals() -> Iterator[StopRequest]:
    """Note Ctrl-C, a request to end and a closed terminal, which must not cut off what starts or ends a server."""
    stop = StopRequest()

    def note(*signal_and_frame: object) -> None:
        stop.made = True

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as `nohup` has it
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def serve(target: Target, port: int) -> Iterator[Server]:
    """Yield MLflow's own server on a database, for this machine alone; all its processes end with the block."""
    with _noted_signals() as stop, TemporaryFile() as log:
        server = Server(target, port, stop, log)
        try:
            yield server
        finally:
            end_session(server.process)


class Server:
    """MLflow's server, in a session of its own: Ctrl-C is for who started it.

    Args:
        target: What to show.
        port: A free port.
        stop: Ends any waiting.
        log: Takes what the server says.
    """

    def __init__(self, target: Target, port: int, stop: StopRequest, log: IO[bytes]) -> None:
        self.address = f"http://{_HOST}:{port}"
        self.stop = stop
        self._target, self._log = target, log
        words = ["ui", "--host", _HOST, "--port", str(port), "--workers", "1"]
        env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | os.environ  # eight processes that no page needs
        path = target.sqlite_file
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=path.parent if path else None,  # artifacts may lie in `./mlruns`
            env=env | {"MLFLOW_BACKEND_STORE_URI": target.tracking_uri},  # where `ps` shows no password
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Return when it answers, or on request; raise `TrackingRefused` if it does not start."""
        self._wait(self._answers, f"MLflow's UI does not start on {self._target.shown_uri}", _PATIENCE)

    def wait(self) -> None:
        """Return on request; raise `TrackingRefused` if it ends by itself."""
        self._wait(lambda: False, "MLflow's UI has ended")

    def _wait(self, is_done: Callable[[], bool], trouble: str, patience: float = math.inf) -> None:
        deadline = time.monotonic() + patience
        while not (self.stop.made or is_done()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TrackingRefused(f"{trouble}: {self._last_words()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with suppress(OSError, HTTPException), _DIRECT.open(f"{self.address}/health", timeout=5):
            return True
        return False

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        return without_password(next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing."))
