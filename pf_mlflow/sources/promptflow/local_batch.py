"""Batches that promptflow ran on this machine: who they are and where their runs go."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings, current_user, flow_variables, store_address, without_password
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid, definition_as_run, run_record
from pf_mlflow.spool.processes import started_at
from pf_mlflow.spool.store import Spool

__all__ = [
    "evaluation_of",
    "known_batches",
    "local_batch",
    "settings_of",
    "single_batch",
    "tracking_uri_of",
]


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
        **_destination(settings, (record and record.flow_dir) or Path.cwd()),
    )


def single_batch(settings: Settings) -> Batch:
    """Return what the single executions of this process are kept as."""
    process = psutil.Process()
    return Batch(
        uid=batch_uid(promptflow_home(), f"single {process.pid}", str(process.create_time())),
        name="",
        client_pid=process.pid,
        client_started=started_at(process),
        single=True,
        **_destination(settings, _folder_of_single_run(settings)),
    )


def _folder_of_single_run(settings: Settings) -> Path:
    """Return the flow's folder; of a flow that runs in a temporary copy, the folder that the command was typed in."""
    here, temporary = Path.cwd(), Path(tempfile.gettempdir()).resolve()
    typed_in = settings.command_folder or here
    return typed_in if temporary in here.resolve().parents and temporary not in typed_in.resolve().parents else here


def _destination(settings: Settings, flow_dir: Path) -> dict[str, Any]:
    """Return where the runs of a flow's batch go, and what they tell.

    `flow_dir` is the author's folder: with `additional_includes` the flow itself runs in a temporary copy.
    """
    return {
        "flow_name": flow_dir.name,
        "tracking_uri": without_password(settings.store_of(flow_dir)),
        "experiment": settings.experiment or flow_dir.name,
        "user": current_user(),
        "content": settings.content,
        "outer_run_id": settings.parent_run or None,
        "prices": settings.prices,
        "log_model": settings.log_model,
    }


def tracking_uri_of(batch: Batch, settings: Settings) -> str:
    """Return a batch's tracking URI, with the password that this process's own settings may have for it."""
    mine = settings.tracking_uri
    return mine if store_address(mine) == store_address(batch.tracking_uri) else batch.tracking_uri


def settings_of(record: RunRecord, settings: Settings) -> Settings:
    """Return the settings of a batch: those of its flow as it ran first, then those that are given."""
    own = flow_variables(definition_as_run(record))
    del own["PWD"]  # of a command that runs a flow; this one's own folder is what the settings say
    here = {"PWD": str(settings.command_folder)} if settings.command_folder else {}
    return Settings.read({**os.environ, **here, **own}) if own else settings


def known_batches(spool: Spool, settings: Settings, name: str) -> list[Batch]:
    """Return the batches that the spool knows by a name, oldest first, and the one that only promptflow does."""
    home = promptflow_home()
    known = spool.batches_named(name)
    record = run_record(home, name)
    if record and batch_uid(home, name, record.created_on) not in {batch.uid for batch in known}:
        batch = local_batch(home, name, record, settings_of(record, settings))
        scores = record.base_batch if record.is_evaluation() else None
        known.append((scores and evaluation_of(scores, batch, spool, settings)) or batch)
    return known


def evaluation_of(base: str, batch: Batch, spool: Spool, settings: Settings) -> Batch | None:
    """Return a batch that scores the lines of another, whose runs are where its scores go; `None` without that one."""
    bases = known_batches(spool, settings, base)
    if not bases:
        return None
    of = bases[-1]
    content = "none" if "none" in (batch.content, of.content) else batch.content
    place = replace(batch, tracking_uri=of.tracking_uri, experiment=of.experiment, content=content)
    return replace(place, base_uid=of.uid, base_name=base)
