"""Keeps the records of lines in promptflow's files, but not what still comes of those that were given up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from promptflow._sdk.operations._local_storage_operations import (
    LineRunRecord,
    LocalStorageOperations,
    NodeRunRecord,
)
from promptflow.contracts.run_info import FlowRunInfo, RunInfo
from promptflow.storage import AbstractRunStorage

from pf_mlflow.running.engine.lines import Lines

__all__ = ["LineStorage"]


class LineStorage(AbstractRunStorage):  # type: ignore[misc]
    """The storage of a batch for lines that are being executed.

    Writes the same files as promptflow's own, without copying each record once more in memory: a third of the time.

    Args:
        storage: promptflow's own storage.
        lines: Tells which lines were not given up: a thread cannot be ended.
    """

    def __init__(self, storage: AbstractRunStorage, lines: Lines) -> None:
        self.inner = storage
        """promptflow's own, which keeps whatever comes."""
        self._lines = lines
        self._is_local = isinstance(storage, LocalStorageOperations)

    def persist_node_run(self, run_info: RunInfo) -> None:
        """Keep what a node did."""
        number = run_info.index
        if run_info.end_time is None:  # of a node that left by `sys.exit()`; promptflow would fail over it
            return
        if number is None or not self._is_local or number == 0:  # aggregation nodes write to line 0's file too
            self.inner.persist_node_run(run_info)
        elif self._lines.inputs(number) is not None:
            folder = self.inner._node_infos_folder / run_info.node
            folder.mkdir(exist_ok=True)
            self.inner._persist_run_multimedia(run_info, folder)
            _write(NodeRunRecord.from_run_info(run_info), folder / self.inner._get_node_run_info_file_name(number))

    def persist_flow_run(self, run_info: FlowRunInfo) -> None:
        """Keep what a line did, when it is over.

        promptflow leaves inputs out that do not fit, and would fail over their absence at the end of the batch.
        """
        inputs = self._lines.inputs(run_info.index)
        if run_info.end_time is None or inputs is None:
            return
        if run_info.inputs is None:
            run_info.inputs = dict(inputs)
        if not self._is_local:
            self.inner.persist_flow_run(run_info)
            return
        folder = self.inner._run_infos_folder
        self.inner._persist_run_multimedia(run_info, folder)
        _write(
            LineRunRecord.from_flow_run_info(run_info), folder / self.inner._get_flow_run_info_file_name(run_info.index)
        )


def _write(record: Any, path: Path) -> None:
    path.write_text(json.dumps(vars(record), ensure_ascii=False), encoding="utf-8")
