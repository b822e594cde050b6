from __future__ import annotations

import pytest
from builders import batch

from pf_mlflow.projection.parent_payload import closing_payload, opening_payload
from pf_mlflow.records.source import BatchFacts, Provenance


@pytest.mark.parametrize(
    "status, expected",
    [
        ("Completed", "FINISHED"),
        ("Failed", "FAILED"),
        ("Canceled", "KILLED"),
        ("Running", "KILLED"),
        (None, "FINISHED"),
    ],
)
def test_the_status_of_the_parent_run(status: str | None, expected: str) -> None:
    payload = closing_payload(BatchFacts("b1", end=100.5, status=status), None)
    assert (payload.status, payload.end_ms, payload.params) == (expected, 100_500, {})


SUMS = {
    "f1/v1/mean": 0.5,
    "exact_match/v1": 1.0,
    "response/llm_judged/safety/percentage": 1.0,
    "judge/seconds": 2.0,
    "overall/pass_rate": 1.0,
    "lines_evaluated": 3.0,
}
"""What an evaluation of finished answers logs and its runs show: the next evaluation gives others."""


def test_the_parent_bears_why_it_failed_and_what_its_flow_logged() -> None:
    payload = closing_payload(BatchFacts("b1", error="no", metrics={"accuracy of it/all": 0.5, **SUMS}), None)
    assert payload.tags == {"promptflow.error": "no"} and payload.metrics == {"accuracy of it_all": 0.5}


def test_the_parent_run_shows_what_is_known_of_its_batch() -> None:
    known = Provenance("${joke.v1}", "rows.jsonl", "d1", "f1", "c1")
    of_data = {"variant": "${joke.v1}", "data": "rows.jsonl", "data_hash": "d1", "git_commit": "c1"}
    assert opening_payload(batch(flow_name="joke-flow"), known).params == {"flow": "joke-flow", **of_data}
    assert opening_payload(batch(flow_name="joke-flow"), Provenance()).params == {"flow": "joke-flow"}
    assert closing_payload(BatchFacts("b1"), "f1").params == {"flow_hash": "f1"}
