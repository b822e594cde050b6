"""What scores look like in an MLflow run: numbers as metrics, texts, rationales and errors as tags. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pf_mlflow.projection.score_sums import VERSION
from pf_mlflow.projection.verdict_payload import add_verdict, is_verdict_key
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.keys import readable, valid_key
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.score import Score
from pf_mlflow.tracking.run_payload import RunPayload

__all__ = [
    "EVALUATION",
    "EVALUATION_STARTED",
    "EVALUATION_UID",
    "add_scores",
    "evaluation_tags",
    "failed_scores",
    "score_keys",
    "score_numbers",
    "score_payload",
    "score_texts",
]

EVALUATION = "promptflow.evaluation"
"""Tag of a run that bears scores: the evaluation's name."""
EVALUATION_UID = "promptflow.evaluation_uid"
EVALUATION_STARTED = "promptflow.evaluation_started"
"""Tag of a parent run: when its evaluation started, in milliseconds of Unix time; of several the latest counts."""
_ERROR = f"{VERSION}/error"


def add_scores(payload: RunPayload, scores: Iterable[Score]) -> None:
    """Add scores to what a line's run holds."""
    for score in scores:
        if score.model is not None:
            add_verdict(payload, score)
            continue
        key = f"{valid_key(score.name)}{VERSION}"
        if score.error is not None:
            payload.add_tag(f"{key}/error", score.error)
        elif isinstance(score.value, str):
            payload.add_tag(key, score.value)
        elif score.value is not None and score.value == score.value:
            payload.metrics[key] = float(score.value)
        if score.rationale is not None:
            payload.add_tag(f"{key}/rationale", score.rationale)


def evaluation_tags(evaluation: Batch) -> dict[str, str]:
    """Return what names an evaluation on the runs that bear its scores."""
    return {EVALUATION: readable(evaluation.name), EVALUATION_UID: evaluation.uid}


def score_payload(record: LineRecord, tags: Mapping[str, str], stale: Iterable[str]) -> RunPayload:
    """Return what an evaluation adds to the run of the line that it scores.

    Args:
        record: The line of the evaluation.
        tags: Name the evaluation.
        stale: Metrics of an earlier evaluation: MLflow cannot delete a metric, so those not given anew become NaN.
    """
    at = round(record.end * 1000)
    payload = RunPayload("", at, at, tags=dict(tags))
    add_scores(payload, record.scores)
    payload.metrics = {**dict.fromkeys(stale, float("nan")), **payload.metrics}
    return payload


def score_keys(values: Mapping[str, object]) -> frozenset[str]:
    """Return those keys of a run's metrics or tags that are an evaluation's."""
    return frozenset(key for key in values if is_verdict_key(key) or f"{key}/".find(f"{VERSION}/") > 0)


def score_numbers(payload: RunPayload) -> dict[str, float]:
    """Return the scores of a run that are numbers, by name."""
    metrics = payload.metrics.items()
    return {key[: -len(VERSION)]: value for key, value in metrics if key.endswith(VERSION) and value == value}


def score_texts(payload: RunPayload) -> dict[str, str]:
    """Return the scores of a run that are texts, by name."""
    return {key[: -len(VERSION)]: value for key, value in payload.tags.items() if key.endswith(VERSION)}


def failed_scores(payload: RunPayload) -> tuple[str, ...]:
    """Return the names of the scores of a run that could not be given."""
    return tuple(key[: -len(_ERROR)] for key in payload.tags if key.endswith(_ERROR))
