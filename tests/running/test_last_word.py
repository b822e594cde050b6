"""MLflow says of a line what promptflow says of it in the end: status, error and output, by whichever way it comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agreement import as_promptflow_has_it, run, sync, without_times
from machine import FLOWS, Machine, Tracked

MESSAGE = json.dumps(
    {"content": "a joke about atom", "refusal": None, "role": "assistant"}
    | dict.fromkeys(["annotations", "audio", "function_call", "tool_calls"])
)
"""The output of a node that asked a model: it is shown though it is no output of the flow."""
NO_JSON = "FlowOutputUnserializable"
KINDS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "plain": ({"kind": "text"}, "text", None),
    "a date": ({"kind": "date"}, None, NO_JSON),
    "a date within": ({"kind": "deep"}, None, NO_JSON),
    "an answer's message": ({"kind": "message"}, MESSAGE, NO_JSON),
    "bytes": ({"kind": "bytes"}, None, NO_JSON),
    "a stream": ({"kind": "stream"}, "Hello", None),
    "a tuple": ({"kind": "tuple"}, '[1, "two"]', None),
    "none": ({"kind": "none"}, "None", None),
    "infinity": ({"kind": "infinite"}, "inf", None),
    "an error": ({"kind": "boom"}, None, "IndexError"),
    "no bool": ({"kind": "text", "sure": "maybe"}, None, "InputTypeError"),
    "null": ({"kind": "text", "sure": None}, None, "InputTypeError"),
}
"""Lines of `kinds`, with the output or the error type that MLflow shows."""
FLEX: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "plain": ({"kind": "text"}, "text", None),
    "a date": ({"kind": "date"}, None, NO_JSON),
    "a stream": ({"kind": "stream"}, "Hello", None),
    "a traced stream": ({"kind": "traced stream"}, "Hello", None),
    "a dict": ({"kind": "dict"}, "Hello", None),
    "a stream in a dict": ({"kind": "dict with a stream"}, "Hello", None),
    "a dataclass": ({"kind": "dataclass"}, "Hello", None),
    "a list": ({"kind": "list"}, '["Hel", "lo"]', None),
    "none": ({"kind": "none"}, "None", None),
    "an error": ({"kind": "boom"}, None, "IndexError"),
    "no number": ({"kind": "text", "count": "many"}, None, "InputTypeError"),
}
"""Lines of `plain_flex`."""
BATCHES = {"kinds": (KINDS, {"sure": True}), "plain_flex": (FLEX, {"count": 3})}


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
