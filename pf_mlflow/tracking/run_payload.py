"""What is written to an MLflow run, within MLflow's limits. Needs no mlflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.keys import readable, valid_key

__all__ = [
    "LINE",
    "NOT_LOGGED",
    "PARAM_LIMIT",
    "RunPayload",
    "SINGLE",
    "TAG_LIMIT",
    "batches_of",
    "child_name",
    "child_tags",
    "milliseconds",
    "path_of_whole",
    "run_tags",
]

PARAM_LIMIT = 6000
"""Characters that MLflow takes in a param's value (`mlflow.utils.validation.MAX_PARAM_VAL_LENGTH`)."""


TAG_LIMIT = 5000
"""Characters that every MLflow 3 takes in a tag's value."""


LINE = "promptflow.line_number"


SINGLE = "promptflow.single_number"
"""Tag of a single execution: which of its process's, so that it is written once."""


NOT_LOGGED = "promptflow.not_logged"
"""Tag of a run whose values MLflow refused: why."""


_LARGEST = 2.0**63
"""Metrics from here on are no measurements; neither NaN nor infinity is below it."""


_LONG_VALUES = "long_values"


@dataclass
class RunPayload:
    """What is written to a run: `texts` are artifacts by path, `status` and times (ms) end it."""

    status: str
    start_ms: int
    end_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def without(self, known: RunPayload) -> RunPayload:
        """Return what a run that shows `known` lacks of this; what it has may be richer, and params never change."""
        lacking = replace(self)
        for kind in ("params", "metrics", "tags"):
            mine, has = getattr(self, kind), getattr(known, kind)
            setattr(lacking, kind, {key: value for key, value in mine.items() if key not in has})
        shown = " ".join(chain(known.params.values(), known.tags.values()))
        lacking.texts = {path: text for path, text in self.texts.items() if path not in shown}
        return lacking

    def add_param(self, key: str, value: Any, limit: int = PARAM_LIMIT) -> None:
        """Add a param under a name that MLflow takes; a value that is too long is cut and kept whole as a text."""
        key = _free_key(valid_key(key), self.params)
        self.params[key] = self._fitting(key, readable(value), limit)

    def add_tag(self, key: str, value: str, limit: int = TAG_LIMIT) -> None:
        """Add a tag; a value that is too long is cut and kept whole as a text."""
        self.tags[key] = self._fitting(key, readable(value), limit)

    def add_metric(self, key: str, value: float | None) -> None:
        """Add a metric unless its value is unknown: absent, not zero."""
        if value is not None and abs(value) < _LARGEST:
            self.metrics[valid_key(key)] = float(value)

    def _fitting(self, key: str, text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        path = _free_key(f"{_LONG_VALUES}/{re.sub(r'[^A-Za-z0-9._-]', '_', key)}", self.texts, ".txt")
        self.texts[path] = text
        mark = f" … [cut: {len(text)} characters, all of them in the artifact {path}]"
        return text[: limit - len(mark)] + mark


def path_of_whole(value: str) -> str | None:
    """Return the artifact that keeps the whole of a value which was cut, `None` if it was not."""
    cut = re.search(rf" … \[cut: \d+ characters, all of them in the artifact ({_LONG_VALUES}/\S+)\]$", value)
    return cut[1] if cut else None


def child_name(line_number: int) -> str:
    """Return the name of a line's child run."""
    return f"Run {line_number:09}"


def run_tags(batch: Batch, run_name: str) -> dict[str, str]:
    """Return the tags that every run of a batch, and the run of a single execution, is created with."""
    return {
        "framework": "Prompt Flow",
        "promptflow.run_id": readable(run_name),
        "promptflow.batch_uid": batch.uid,
        "mlflow.user": readable(batch.user),
        "mlflow.source.name": readable(batch.flow_name),
    }


def child_tags(batch: Batch, line_number: int, parent_run_id: str | None) -> dict[str, str]:
    """Return the tags that a line's run is created with; that of a single execution has no parent."""
    if parent_run_id is None:
        return run_tags(batch, batch.name) | {SINGLE: str(line_number)}
    line = {LINE: str(line_number), "mlflow.parentRunId": parent_run_id}
    return run_tags(batch, batch.name) | line


def milliseconds(seconds: float) -> int:
    """Return a Unix time in the unit of MLflow's run times."""
    return round(seconds * 1000)


def batches_of(values: Mapping[str, str], most: int = 100, most_bytes: int = 700_000) -> Iterator[dict[str, str]]:
    """Split params or tags into requests that MLflow takes: 100 entries, 1 MB of JSON."""
    part: dict[str, str] = {}
    size = 0
    for key, value in values.items():
        item = len(json.dumps(key)) + len(json.dumps(value)) + 30
        if part and (len(part) == most or size + item > most_bytes):
            yield part
            part, size = {}, 0
        part[key] = value
        size += item
    if part:
        yield part


def _free_key(key: str, taken: Mapping[str, Any], suffix: str = "") -> str:
    candidates = chain([f"{key}{suffix}"], (f"{key}_{number}{suffix}" for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
