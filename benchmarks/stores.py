"""Where batches are logged to: SQLite files, made beforehand, and an `mlflow server` that is asked what it cost."""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from mlflow import MlflowClient

from benchmarks.parts import server, working_in

__all__ = ["SERVER", "SQLITE", "Store", "stores"]

SQLITE, SERVER = "SQLite", "mlflow server"
_REQUEST = re.compile(r'"(?:GET|POST|PATCH|DELETE) /api/\S*/mlflow/(?!\S*search)')
"""A line of the server's log; searches are what the benchmark itself reads back with."""


class Store(ABC):
    """A place that batches are logged to."""

    kind: str

    @abstractmethod
    def uri_for(self, batch: str) -> str:
        """Return the tracking URI that a batch is to log to."""

    def requests(self) -> int:
        """Return how many requests there have been so far, searches aside."""
        return 0

    def cpu(self) -> float:
        """Return the CPU seconds that the store's own processes have used so far."""
        return 0.0


class _Sqlite(Store):
    """A file of its own for each batch, with MLflow's tables in it: making those is paid once, not per batch."""

    kind = SQLITE

    def __init__(self, folder: Path) -> None:
        self._empty = folder / "empty.db"
        MlflowClient(f"sqlite:///{self._empty}").search_experiments()

    def uri_for(self, batch: str) -> str:
        path = shutil.copy(self._empty, self._empty.with_name(f"{batch}.db"))
        return f"sqlite:///{path}"


class _Server(Store):
    """One server for all batches."""

    kind = SERVER

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder, self._uri = folder, uri

    def uri_for(self, batch: str) -> str:
        return self._uri

    def requests(self) -> int:
        return len(_REQUEST.findall((self._folder / "server.log").read_text("utf-8")))

    def cpu(self) -> float:
        times = [process.cpu_times() for process in working_in(self._folder) if psutil.pid_exists(process.pid)]
        return sum(one.user + one.system for one in times)


@contextmanager
def stores(folder: Path, with_server: bool) -> Iterator[dict[str, Store]]:
    """Yield the stores by their kind."""
    folder.mkdir()
    sqlite = _Sqlite(folder)
    if not with_server:
        yield {SQLITE: sqlite}
        return
    with server(folder / "server") as uri:
        yield {SQLITE: sqlite, SERVER: _Server(folder / "server", uri)}
