"""Results of lines reduced to what the batch still needs: their records are on the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from promptflow._constants import LINE_NUMBER_KEY
from promptflow._utils.dataclass_serializer import convert_dataclass_to_dict
from promptflow.contracts.run_info import RunInfo, Status
from promptflow.executor._result import LineResult

__all__ = ["reduced"]


def reduced(result: LineResult, persisted: Callable[[Any], Any]) -> LineResult:
    """Return output, status, error and token counts of a line; promptflow's own result holds its values many times.

    Args:
        result: What promptflow's executor returned; it is changed.
        persisted: Returns an output with its images written to files.
    """
    info, output = result.run_info, result.output
    if isinstance(output, dict):
        output.pop(LINE_NUMBER_KEY, None)
    output = persisted(convert_dataclass_to_dict(output)) if info.status is Status.Completed else {}
    nodes = {name: _node_status(name, node.status) for name, node in result.node_run_infos.items()}
    info.inputs = info.output = info.result = info.api_calls = None
    return LineResult(output, result.aggregation_inputs, info, nodes)


@cache
def _node_status(node: str, status: Status) -> RunInfo:
    """Return one object for all lines: the batch counts nothing but nodes by status."""
    nothing = dict.fromkeys(["inputs", "output", "metrics", "error", "start_time", "end_time"])
    return RunInfo(node=node, status=status, flow_run_id="", run_id="", parent_run_id="", **nothing)
