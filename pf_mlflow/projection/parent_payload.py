"""What the parent run shows of its batch besides the sums of its lines: what it was made of, and how it ended."""

from __future__ import annotations

import time

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.source import BatchFacts, Provenance
from pf_mlflow.scoring.sums import is_sum
from pf_mlflow.tracking.run_payload import RunPayload, milliseconds

__all__ = ["closing_payload", "opening_payload"]

_STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED", None: "FINISHED"}
"""MLflow's status by promptflow's; a batch that promptflow still calls running when it is over was killed."""


def opening_payload(batch: Batch, provenance: Provenance) -> RunPayload:
    """Return what the parent run tells from its start: flow, data and code that the batch was made of."""
    payload = RunPayload("RUNNING", 0, 0)
    payload.add_param("flow", batch.flow_name)
    for name in ("variant", "data", "data_hash", "git_commit"):
        if value := getattr(provenance, name):
            payload.add_param(name, value)
    if provenance.copied_from:
        payload.add_tag("promptflow.copied_from", provenance.copied_from)
    return payload


def closing_payload(facts: BatchFacts, flow_hash: str | None) -> RunPayload:
    """Return the parent run's end by the batch's facts, and the hash of the flow that ran."""
    payload = RunPayload(_STATUS.get(facts.status, "KILLED"), 0, milliseconds(facts.end or time.time()))
    if flow_hash:
        payload.add_param("flow_hash", flow_hash)
    if facts.error:
        payload.add_tag("promptflow.error", facts.error)
    for name, value in facts.metrics.items():
        if not is_sum(name):  # which a later evaluation takes the place of
            payload.add_metric(name, value)
    return payload
