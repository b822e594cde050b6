"""A projection that only reads: for whoever wants to know what would be done, or what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from pf_mlflow.tracking.run_payload import RunPayload
from pf_mlflow.tracking.writer import Projection

__all__ = ["Rehearsal"]


class Rehearsal(Projection):
    """Reads a store as a projection does, and writes nothing to it."""

    def connect(self) -> None:
        """Find the experiment; a store that does not exist yet has none, and is not made."""
        if self._is_there():
            super().connect()

    def _is_there(self) -> bool:
        path = make_url(self.tracking_uri).database if self.tracking_uri.startswith("sqlite:") else None
        return path is None or Path(path).exists()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write nothing in one go."""
        yield

    def _create_experiment(self) -> str:
        return ""

    def _create(self, start: float, tags: dict[str, str], name: str) -> str:
        return ""

    def log(self, run_id: str, payload: RunPayload) -> None:
        """Log nothing."""

    def log_table(self, run_id: str, path: Path) -> None:
        """Log nothing."""

    def end(self, run_id: str, status: str, end_ms: int) -> None:
        """End nothing."""

    def delete(self, run_id: str) -> None:
        """Delete nothing."""

    def adopt_children(self, batch_uid: str, parent_run_id: str) -> None:
        """Move nothing."""

    def drop_tags(self, run_id: str, keys: Iterable[str]) -> None:
        """Drop nothing."""
