"""What scores look like in an MLflow run: numbers as metrics, texts, rationales and errors as tags. Needs no mlflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.keys import readable, valid_key
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.score import OVERALL, ROOT_CAUSE, Score
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.sums import JUDGED, VERSION
from pf_mlflow.tracking.run_payload import TAG_LIMIT, RunPayload

__all__ = [
    "EVALUATION",
    "EVALUATION_KEYS",
    "EVALUATION_STARTED",
    "EVALUATION_UID",
    "EXPECTED",
    "add_scores",
    "cost_keys",
    "evaluation_tags",
    "key_tags",
    "score_keys",
    "score_payload",
    "scores_of",
    "with_earlier_costs",
]

EVALUATION = "promptflow.evaluation"
"""Tag of a run that bears scores: the evaluation's name."""
EVALUATION_UID = "promptflow.evaluation_uid"
"""Tag of a run that bears scores: the evaluation's batch uid."""
EVALUATION_STARTED = "promptflow.evaluation_started"
"""Tag of a parent run: when its evaluation started, in milliseconds of Unix time; of several the latest counts."""
EVALUATION_KEYS = "promptflow.evaluation_keys"
"""Tag of a run that bears scores: names of its metrics and tags that are the evaluation's, with commas."""
EXPECTED = "expected"
"""Tag of a line's run: the answer that its evaluation was given as the right one."""
_TRUTH = "ground_truth"
_ASSESSMENT = "response/overall_assessment/"
_JOINT = {OVERALL: f"{_ASSESSMENT}rating", ROOT_CAUSE: f"{_ASSESSMENT}root_cause"}
"""Tags of what the judges of a line say together, by the score's name."""
_JOINT_RATIONALE = f"{_ASSESSMENT}rationale"
_TOOK = ("prompt_tokens", "completion_tokens", "cost", "seconds")
"""What is told of a verdict beside it, in sums over all that was asked for it."""


def add_scores(payload: RunPayload, scores: Iterable[Score], inputs: Mapping[str, Any] | None = None) -> None:
    """Add scores to what a line's run holds, and which of its values they are.

    Args:
        payload: What the run holds.
        scores: The line's.
        inputs: What they were given by, of which the right answer is shown.
    """
    others = payload.metrics.keys() | payload.tags.keys()
    _add_scores(payload, scores)
    if expected := LineFields.of(ground_truth=(inputs or {}).get(_TRUTH)).ground_truth:
        payload.add_tag(EXPECTED, expected)
    payload.tags |= key_tags((payload.metrics.keys() | payload.tags.keys()) - others)


def _add_scores(payload: RunPayload, scores: Iterable[Score]) -> None:
    for score in scores:
        if score.is_joint:
            _add_tags(payload, {_JOINT[score.name]: str(score.value), _JOINT_RATIONALE: score.rationale})
        elif score.is_judged:
            _add_verdict(payload, score)
        else:
            key = f"{valid_key(score.name)}{VERSION}"
            _add_tags(payload, {key: score.text, f"{key}/error": score.error, f"{key}/rationale": score.rationale})
            _add_number(payload, score)


def _add_verdict(payload: RunPayload, score: Score) -> None:
    key = f"{JUDGED}{valid_key(score.name)}"
    rating = score.text if score.number is None else f"{score.number:g}"
    tags = {"error": score.error, "rating": rating, "rationale": score.rationale, "model": score.model}
    tags["cached"] = "true" if score.cached else None
    _add_tags(payload, {f"{key}/{kind}": text for kind, text in tags.items()})
    _add_number(payload, score)
    for kind in _TOOK:
        if (number := getattr(score, kind)) is not None:
            payload.metrics[f"{key}/{kind}"] = float(number)


def _add_tags(payload: RunPayload, tags: Mapping[str, str | None]) -> None:
    for key, text in tags.items():
        if text is not None:
            payload.add_tag(key, text)


def _add_number(payload: RunPayload, score: Score) -> None:
    if (number := score.number) is not None:
        payload.metrics[f"{valid_key(score.name)}{VERSION}"] = number


def scores_of(payload: RunPayload) -> list[Score]:
    """Return the scores that a line's run shows: a bool is a number there, and a long text is cut."""
    formulas: dict[str, dict[str, Any]] = defaultdict(dict)
    judges: dict[str, dict[str, Any]] = defaultdict(dict)
    own = score_keys(payload)
    for key, value in (*payload.metrics.items(), *payload.tags.items()):
        if key not in own or value != value:  # a number of an earlier evaluation
            continue
        name, _, kind = key.rpartition("/")
        if key.startswith(JUDGED):
            judges[name.removeprefix(JUDGED)][kind] = value
        elif key.endswith(VERSION):
            formulas[name]["value"] = value
        elif name.endswith(VERSION) and kind in ("error", "rationale"):
            formulas[name.removesuffix(VERSION)][kind] = value
    verdicts = [_verdict(judge, fields, formulas.pop(judge, {})) for judge, fields in judges.items()]
    return [
        *(Score(name, **fields) for name, fields in formulas.items()),
        *verdicts,
        *_joint(payload.tags, own, verdicts),
    ]


def _verdict(judge: str, fields: Mapping[str, Any], number: Mapping[str, Any]) -> Score:
    prompt, completion = (fields.get(kind) for kind in ("prompt_tokens", "completion_tokens"))
    return Score(
        judge,
        number.get("value", fields.get("rating")),
        fields.get("rationale"),
        fields.get("error"),
        fields.get("model", ""),
        fields.get("seconds"),
        None if prompt is None else int(prompt),
        None if completion is None else int(completion),
        cost=fields.get("cost"),
        cached="cached" in fields or None,
    )


def _joint(tags: Mapping[str, str], own: Container[str], verdicts: Iterable[Score]) -> Iterator[Score]:
    model = next((verdict.model for verdict in verdicts), "")
    for name, key in _JOINT.items():
        if key in tags and key in own:
            yield Score(name, tags[key], tags.get(_JOINT_RATIONALE) if name == OVERALL else None, model=model)


def evaluation_tags(evaluation: Batch) -> dict[str, str]:
    """Return what names an evaluation on the runs that bear its scores."""
    return {EVALUATION: readable(evaluation.name), EVALUATION_UID: evaluation.uid}


def score_payload(record: LineRecord, tags: Mapping[str, str], stale: Iterable[str]) -> RunPayload:
    """Return what an evaluation adds to the run of the line that it scores.

    Args:
        record: The line of the evaluation.
        tags: Name the evaluation.
        stale: Metrics of an earlier evaluation: MLflow cannot delete a metric, so what gets no new value becomes NaN.
    """
    at = round(record.end * 1000)
    payload = RunPayload("", at, at, tags=dict(tags))
    add_scores(payload, record.scores, record.inputs)
    payload.metrics = {**dict.fromkeys(stale, float("nan")), **payload.metrics}
    return payload


def cost_keys(values: Mapping[str, object]) -> frozenset[str]:
    """Return those keys of a run's metrics that tell what judges took."""
    return frozenset(key for key in values if key.startswith(JUDGED) and key.rpartition("/")[2] in _TOOK)


def with_earlier_costs(scores: Iterable[Score], earlier: Iterable[Score]) -> tuple[Score, ...]:
    """Return scores with what an earlier evaluation spent on them: on a verdict taken from it, on an error asked again.

    Args:
        scores: A line's.
        earlier: The verdicts that its run shows.
    """
    before = {valid_key(score.name): score for score in earlier if score.is_judged and not score.is_joint}
    return tuple(_added(score, before.get(valid_key(score.name))) for score in scores)


def _added(score: Score, before: Score | None) -> Score:
    if before is None or before.model != score.model or not (score.cached or before.error):
        return score
    costs = {kind: (getattr(before, kind), getattr(score, kind)) for kind in _TOOK}
    known = {kind: [one for one in both if one is not None] for kind, both in costs.items()}
    return replace(score, **{kind: sum(both) for kind, both in known.items() if both})


def key_tags(keys: Iterable[str]) -> dict[str, str]:
    """Return the tags that list the names of metrics and tags as an evaluation's, as many as they take."""
    lists: list[str] = []
    for key in sorted(keys):
        if lists and len(lists[-1]) + len(key) < TAG_LIMIT:
            lists[-1] += f",{key}"
        else:
            lists.append(key)
    return {EVALUATION_KEYS + (f"_{number}" if number > 1 else ""): text for number, text in enumerate(lists, 1)}


def score_keys(values: RunPayload) -> frozenset[str]:
    """Return the names of a run's metrics and tags that are an evaluation's: others may be named alike."""
    listed = (text for key, text in values.tags.items() if key.startswith(EVALUATION_KEYS))
    return frozenset(key for text in listed for key in text.split(","))
