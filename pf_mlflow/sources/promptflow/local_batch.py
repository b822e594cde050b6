"""Batches that promptflow ran on this machine: who they are and where their runs go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings, current_user, default_tracking_uri, without_password
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid
from pf_mlflow.spool.processes import started_at

__all__ = ["destination", "local_batch", "tracking_uri_of"]


def local_batch(
    home: Path, name: str, record: RunRecord | None, settings: Settings, client: psutil.Process | None = None
) -> Batch:
    """Return a batch as the spool keeps it; `client` is the process that runs it, if that is known."""
    return Batch(
        uid=batch_uid(home, name, record.created_on if record else ""),
        name=name,
        client_pid=client.pid if client else 0,
        client_started=started_at(client) if client else 0.0,
        promptflow_home=str(home) if record else None,
        **destination(settings, (record and record.flow_dir) or Path.cwd()),
    )


def destination(settings: Settings, flow_dir: Path) -> dict[str, Any]:
    """Return where the runs of a flow's batch go, and what they tell.

    `flow_dir` is the author's folder: with `additional_includes` the flow itself runs in a temporary copy.
    """
    return {
        "flow_name": flow_dir.name,
        "tracking_uri": without_password(settings.tracking_uri or default_tracking_uri(flow_dir)),
        "experiment": settings.experiment or flow_dir.name,
        "user": current_user(),
        "content": settings.content,
    }


def tracking_uri_of(batch: Batch, settings: Settings) -> str:
    """Return a batch's tracking URI, with the password that this process's own settings may have for it."""
    mine = settings.tracking_uri
    return mine if without_password(mine) == batch.tracking_uri else batch.tracking_uri
