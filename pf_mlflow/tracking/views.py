"""What MLflow's pages are given to show batches well: shared views of an experiment, and descriptions of runs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.entities import ExperimentTag, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pf_mlflow.tracking.links import BATCHES_VIEW
from pf_mlflow.tracking.run_payload import TAG_LIMIT, milliseconds

__all__ = ["Wanted", "describe", "keep_views"]

_VIEW = "mlflow.sharedViewState."
_VIEWS = "pf_mlflow.views"
"""Tag of an experiment: digests of its views as they were written, by key."""
_DESCRIBED = "promptflow.described"
"""Tag of a run: the digest of its description as it was written."""

Wanted = Callable[[Mapping[str, Mapping[str, Any]]], Mapping[str, tuple[str, object]]]
"""Gives name and state of views by key, of the states of those that are there unchanged."""


def keep_views(store: Any, experiment_id: str, wanted: Wanted) -> None:
    """Make an experiment's shared views in MLflow's store, and renew them while nobody has changed them.

    Args:
        store: MLflow's.
        experiment_id: The experiment's.
        wanted: Gives name and state by key, of the states that are shown. One that a user changed stays
            so, and one that a user deleted away, but for that which links lead to.
    """
    tags = dict(store.get_experiment(experiment_id).tags)
    ours: dict[str, str] = json.loads(tags.get(_VIEWS, "{}"))
    renewed = dict(ours)
    unchanged = {key: text for key in ours if (text := tags.get(f"{_VIEW}{key}")) and ours[key] == _digest(text)}
    states = {key: json.loads(json.loads(text)["state"]) for key, text in unchanged.items()}
    for key, (name, state) in wanted(states).items():
        shown = tags.get(f"{_VIEW}{key}")
        is_ours = ours.get(key) == (shown and _digest(shown))
        if not is_ours and (shown or key != BATCHES_VIEW):
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
