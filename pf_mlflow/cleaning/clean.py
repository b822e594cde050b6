"""Takes away what is left over on this machine."""

from __future__ import annotations

import time
from typing import Any

from pf_mlflow.cleaning.batch_folders import batch_folders
from pf_mlflow.cleaning.findings import CONNECTION, Cleaned, Kept, Removed
from pf_mlflow.cleaning.spool_folder import spool_folder
from pf_mlflow.delivery.sync import SyncProgress
from pf_mlflow.running.model_choice import stale_connections
from pf_mlflow.running.request import PROCESSES
from pf_mlflow.running.submission import new_client
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.private_names import promptflow_home, stored_connections

__all__ = ["clean"]


def clean(settings: Settings, age: float, batches: bool, dry_run: bool, progress: SyncProgress) -> Cleaned:
    """Take away what nobody needs any more.

    Args:
        settings: Say where the spool is.
        age: Seconds; what has one and is younger stays.
        batches: Whether promptflow's folders of batches go that MLflow fully has.
        dry_run: Only find out what would go.
        progress: Hears which batch is compared with MLflow.
    """
    found = Cleaned()
    stale = stale_connections(stored_connections(promptflow_home()))
    before = time.time() - age
    compared = list(batch_folders(settings, before, progress)) if batches else []
    doomed = [one for one in compared if isinstance(one, Removed)]
    found.add(one for one in compared if isinstance(one, Kept))
    client = new_client(PROCESSES) if (stale or doomed) and not dry_run else None
    found.add(_without(client and client.connections, Removed(CONNECTION, name)) for name in stale)
    found.add(_without(client and client.runs, one) for one in doomed)
    found.add(spool_folder(settings.spool_dir, before, dry_run))
    return found


def _without(operations: Any, doomed: Removed) -> Removed | Kept:
    """Delete something of promptflow's by its own operations; without those, only say so."""
    try:
        if operations:
            operations.delete(doomed.name)
    except Exception as error:  # noqa: BLE001 - promptflow's are of every kind, and the sentence tells which
        return Kept(doomed.kind, doomed.name, " ".join(str(error).split()), failed=True)
    return doomed
