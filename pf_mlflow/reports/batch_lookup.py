"""Finds the batch that a name means: of this machine, else of the store that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pf_mlflow.errors import BadInput
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings, without_password
from pf_mlflow.sources.promptflow.local_batch import known_batches, tracking_uri_of
from pf_mlflow.spool.store import Spool

__all__ = ["FoundBatch", "find_batch"]


@dataclass(frozen=True)
class FoundBatch:
    """A batch, and its run as far as it is known without asking MLflow."""

    batch: Batch
    tracking_uri: str
    """With its password, if there is one."""
    experiment_id: str | None = None
    parent_run_id: str | None = None
    older: int = 0
    """How many batches of the same name there were before."""
    is_ours: bool = True
    """Whether it ran on this machine: else only its store knows it."""


def find_batch(spool: Spool, settings: Settings, name: str) -> FoundBatch:
    """Return the newest batch of a name: of this machine, else of the store that the settings name.

    Raises:
        BadInput: nobody knows the name.
        TrackingError: nobody here knows the name, and the store cannot be asked.
    """
    batches = known_batches(spool, settings, name)
    if not batches:
        return _in_store(spool, settings, name)
    newest = batches[-1]
    state = spool.state(newest.uid)
    experiment_id, run_id = (state.experiment_id, state.parent_run_id) if state else (None, None)
    return FoundBatch(newest, tracking_uri_of(newest, settings), experiment_id, run_id, len(batches) - 1)


def _in_store(spool: Spool, settings: Settings, name: str) -> FoundBatch:
    from pf_mlflow.tracking.reader import StoreReader  # which takes seconds, and a local batch does not need it

    uri = settings.store_of(Path.cwd())
    reader = StoreReader(uri, "", spool.folder)
    reader.open()
    found = reader.batches_named(name)
    if not found:
        raise BadInput(
            f"There is no batch {name!r}: neither promptflow knows it (`pf run list` shows its batches) "
            f"nor MLflow at {without_password(uri)} (`pf-mlflow ui` opens it, MLFLOW_TRACKING_URI names another)."
        )
    batch, experiment_id, run_id = found[0]
    return FoundBatch(batch, uri, experiment_id, run_id, older=len(found) - 1, is_ours=False)
