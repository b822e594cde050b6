"""MLflow says of a line what promptflow says of it in the end: status, error and output, by whichever way it comes."""

from __future__ import annotations

import pytest
from agreement import as_promptflow_has_it, run, sync, without_times
from kinds import FLEX, KINDS, STREAMS
from machine import FLOWS, Machine, Tracked

BATCHES = {
    "kinds": (KINDS, {"sure": True}),
    "plain_flex": (FLEX, {"count": 3, "not_taken": "x"}),
    "streaming": (STREAMS, {}),
}


@pytest.fixture(scope="module", params=BATCHES)
def flow(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shown(machine: Machine, flow: str) -> Tracked:
    lines, defaults = BATCHES[flow]
    data = machine.data(f"last_word_{flow}", [{**defaults, **row} for row, *_ in lines.values()])
    return run(machine, FLOWS / flow, data, f"last_word_{flow}")


def test_each_line_is_shown_as_promptflow_decided(machine: Machine, flow: str, shown: Tracked) -> None:
    lines, _ = BATCHES[flow]
    for number, (what, (row, output, error)) in enumerate(lines.items()):
        info, data = shown.children[number].info, shown.children[number].data
        told = (info.status, data.params.get("output"), data.tags.get("promptflow.error_type"))
        assert told == ("FAILED" if error else "FINISHED", output, error), what
        assert data.params["input_kind"] == row["kind"], what
        assert "input_not_taken" not in data.params, what
    as_promptflow_has_it(machine, f"last_word_{flow}", shown)
    assert shown.parent.info.status == "FINISHED"  # inputs that do not fit do not end the batch


def test_the_parent_bears_what_became_of_the_sums(machine: Machine, flow: str, shown: Tracked) -> None:
    data = shown.parent.data
    if flow == "kinds":
        completed = sum(error is None for _, _, error in KINDS.values())
        assert data.metrics["answers"] == completed == data.metrics["lines_completed"]
        told = "tell, which sums the lines up, failed: ArithmeticError: nothing can be summed up"
        assert data.tags["promptflow.error"] == told
        assert told in machine.command("pf-mlflow", "show", "last_word_kinds").stderr
    else:
        assert "promptflow.error" not in data.tags


def test_sync_shows_the_same(machine: Machine, flow: str, shown: Tracked) -> None:
    assert without_times(sync(machine, f"last_word_{flow}")) == without_times(shown)
