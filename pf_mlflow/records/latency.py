"""How long a line took: what every p50 of a batch is over."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pf_mlflow.records.line import LineRecord

__all__ = ["elapsed", "latency", "time_in"]


def latency(record: LineRecord) -> float | None:
    """Return the seconds in which at least one recorded node ran, else those of the line; `None` if nobody knows."""
    nodes = record.node_spans()
    reached = [nodes[name] for name in record.recorded_nodes() if name in nodes]
    in_nodes = time_in([(node.start, record.end if node.end is None else node.end) for node in reached])
    return elapsed(record.start, record.end) if in_nodes is None else in_nodes


def time_in(spans: Sequence[tuple[float, float]]) -> float | None:
    """Return the seconds that are in at least one of the spans; `None` if the clock was set back in one, or of none."""
    if not spans or any(end < start for start, end in spans):
        return None
    seconds, until = 0.0, -math.inf
    for start, end in sorted(spans):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


def elapsed(start: float, end: float) -> float | None:
    """Return seconds; `None` if the clock was set back meanwhile."""
    return end - start if end >= start else None
