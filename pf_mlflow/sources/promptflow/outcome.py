"""What promptflow keeps of a batch as a whole: why it, or what sums its lines up, failed, and the metrics of that."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pf_mlflow.sources.promptflow.run_record import RunRecord
from pf_mlflow.sources.promptflow.spans import error_of

__all__ = ["failure_of", "logged_metrics"]

_OF_A_CLASS = re.compile(r"Failed to execute aggregation function with error: (\{.*\})$")
"""What promptflow logs, and keeps nowhere else, of a flex flow's `__aggregate__`."""
_END_OF_LOG = 200_000
"""Bytes of a batch's log in which that stands: it comes last."""


def logged_metrics(record: RunRecord) -> dict[str, float]:
    """Return the numbers that a flow's own aggregation has logged by `log_metric`."""
    metrics = _json(record.folder / "metrics.json")
    numbers = {k: v for k, v in metrics.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {name: float(number) for name, number in numbers.items()}


def failure_of(record: RunRecord, has_texts: bool = True) -> str | None:
    """Return why promptflow says that the batch, or a node that sums it up, failed; `None` if it does not say.

    Args:
        record: The batch's.
        has_texts: Whether messages are told, not only types.
    """
    if record.status == "Failed":
        message = _json(record.folder / "error.json").get("message") if has_texts else None
        return " ".join(str(message).split()) if message else None
    return "; ".join(_of_aggregation(record.folder, has_texts)) or None


def _of_aggregation(folder: Path, has_texts: bool) -> Iterator[str]:
    kept = _json(folder / "error.json").get("additionalInfo") or []
    errors = [error for one in kept for error in (one.get("info") or {}).get("errors") or []]
    of_nodes = {str(one["aggregation_node_name"]): one["error"] for one in errors if "aggregation_node_name" in one}
    for node, error in (of_nodes or _of_a_class(folder)).items():
        kind, message = error_of(error, ())
        yield f"{node}, which sums the lines up, failed: {kind}{f': {message}' if has_texts and message else ''}"


def _of_a_class(folder: Path) -> dict[str, Any]:
    try:
        with (folder / "logs.txt").open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _END_OF_LOG))
            found = map(_OF_A_CLASS.search, log.read().decode("utf-8", "replace").splitlines())
        match = next(filter(None, found), None)
        return {"__aggregate__": ast.literal_eval(match[1])} if match else {}
    except (OSError, ValueError, SyntaxError):
        return {}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
