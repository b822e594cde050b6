"""Records that several tests start from, and text of every kind."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from pf_mlflow.records.batch import Batch
from pf_mlflow.records.line import COMPLETED, LineRecord, Span, Tokens

any_text = st.text(st.characters(exclude_categories=()))
"""NUL, lone surrogates, controls, emoji: whatever a Python string can hold."""

json_text = any_text.map(lambda text: json.loads(json.dumps(text)))
"""What can come out of JSON: lone surrogates still, but no pair that JSON would join."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | json_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_text, inner, max_size=3),
    max_leaves=5,
)


def span(id: str, parent: str | None = "root", **changes: Any) -> Span:
    values = {"id": id, "name": id, "kind": "Function", "start": 100.0, "end": 101.0, "parent": parent}
    return Span(**{**values, **changes})


def llm_node(name: str, start: float = 100.5, end: float | None = 102.0, **changes: Any) -> tuple[Span, Span]:
    """An LLM node, and its LLM call of 11 + 7 tokens."""
    inputs = {"prompt": "Joke about {{topic}}", "model": "m", "topic": "atom", "_inputs_to_escape": ["topic"]}
    values = {"inputs": inputs, "output": "Ha!", "has_output": True, "node": name}
    call = span(f"{name}-call", name, kind="LLM", start=start, tokens=Tokens(11, 7, 18), model="fake-1")
    return span(name, start=start, end=end, **{**values, **changes}), call


def line_record(*spans: Span, **changes: Any) -> LineRecord:
    """Line 7 of a batch: 2.5 seconds, below its root these spans or one LLM node, `joke`."""
    values = {
        "batch_uid": "uid",
        "line_number": 7,
        "status": COMPLETED,
        "start": 100.0,
        "end": 102.5,
        "inputs": {"topic": "atom"},
        "outputs": {"joke": "Ha!", "child_run_id": ""},
        "spans": (span("root", None, kind="Flow", end=102.5), *(spans or llm_node("joke"))),
        "run_name": "b1",
    }
    return LineRecord(**{**values, **changes})


def batch(**changes: Any) -> Batch:
    values = {
        "uid": "uid",
        "name": "b1",
        "flow_name": "joke-flow",
        "tracking_uri": "sqlite:////tmp/mlflow.db",
        "experiment": "joke-flow",
        "user": "ana",
        "client_pid": 4242,
        "client_started": 99.5,
    }
    return Batch(**{**values, **changes})
