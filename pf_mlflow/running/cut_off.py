"""Ends a batch in promptflow's place whose processes are gone, so that it can be scored and gone on with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records.line import COMPLETED
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.local_batch import known_batches
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record
from pf_mlflow.spool.store import Spool

__all__ = ["end_record", "ended_record"]


def ended_record(name: str, settings: Settings) -> RunRecord:
    """Return promptflow's record of a batch that is over, also of one that was killed before promptflow wrote so.

    Raises:
        BadInput: there is no such batch, or it still runs.
    """
    home, spool = promptflow_home(), Spool(settings.spool_dir)
    record = run_record(home, name)
    if record is None:
        raise BadInput(f"There is no batch {name!r} on this machine; `pf run list` shows those there are.")
    if record.is_over:
        return record
    if LocalSource.of(known_batches(spool, settings, name)[-1], spool).is_running():
        raise BadInput(f"The batch {name!r} still runs; wait until it is over, or interrupt it.")
    end_record(record, "Canceled")
    return run_record(home, name) or record


def end_record(record: RunRecord, status: str) -> None:
    """Write what promptflow would have: the outputs of completed lines, and how the batch ended."""
    from promptflow.client import PFClient

    folder = BatchFolder.of(record)
    infos = dict(folder.run_infos(lambda number: True))
    if not folder.outputs_file.exists():
        folder.outputs_file.parent.mkdir(parents=True, exist_ok=True)
        lines = (_output(number, info) for number, info in sorted(infos.items()) if info["status"] == COMPLETED)
        folder.outputs_file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    by_status = Counter(info["status"] == COMPLETED for info in infos.values())
    PFClient().runs.update(
        name=record.name,
        status=status,
        end_time=datetime.fromtimestamp(folder.last_written() or record.start or 0.0).astimezone(),
        system_metrics={"__pf__.lines.completed": by_status[True], "__pf__.lines.failed": by_status[False]},
    )


def _output(number: int, info: Mapping[str, Any]) -> dict[str, Any]:
    output = info.get("output")
    return {"line_number": number, **(output if isinstance(output, dict) else {"output": output})}
