"""What MLflow's pages are given to show batches well: shared views of an experiment, and descriptions of runs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import ExperimentTag, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pf_mlflow.tracking.run_payload import TAG_LIMIT, milliseconds

__all__ = ["describe", "keep_views"]

_VIEW = "mlflow.sharedViewState."
_VIEWS = "pf_mlflow.views"
"""Tag of an experiment: digests of its views as they were written, by key."""
_DESCRIBED = "promptflow.described"
"""Tag of a run: the digest of its description as it was written."""


def keep_views(store: Any, experiment_id: str, views: Mapping[str, tuple[str, object]]) -> None:
    """Make an experiment's shared views in MLflow's store, and renew them while nobody has changed them.

    Args:
        store: MLflow's.
        experiment_id: The experiment's.
        views: Name and state by key. One that a user changed or deleted stays so.
    """
    tags = dict(store.get_experiment(experiment_id).tags)
    ours: dict[str, str] = json.loads(tags.get(_VIEWS, "{}"))
    renewed = dict(ours)
    for key, (name, state) in views.items():
        shown = tags.get(f"{_VIEW}{key}")
        if ours.get(key) != (shown and _digest(shown)):
            continue
        made = json.loads(shown)["createdAt"] if shown else milliseconds(time.time())
        text = json.dumps({"name": name, "createdAt": made, "state": json.dumps(state)})
        if text != shown and len(text) <= TAG_LIMIT:
            store.set_experiment_tag(experiment_id, ExperimentTag(f"{_VIEW}{key}", text))
            renewed[key] = _digest(text)
    if renewed != ours:
        store.set_experiment_tag(experiment_id, ExperimentTag(_VIEWS, json.dumps(renewed)))


def describe(store: Any, run_id: str, text: str, shown: Mapping[str, str]) -> None:
    """Describe a run in Markdown, unless a user has; `shown`: the run's tags."""
    before = shown.get(MLFLOW_RUN_NOTE)
    if text != before and shown.get(_DESCRIBED) == (before and _digest(before)):
        store.log_batch(run_id, [], [], [RunTag(MLFLOW_RUN_NOTE, text), RunTag(_DESCRIBED, _digest(text))])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
