"""What promptflow is spared for each line gives what promptflow itself would, and promptflow is the one that was read."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import promptflow.tools.common
import promptflow.tracing._trace
import promptflow.tracing._utils
import pytest
from promptflow.connections import OpenAIConnection
from promptflow.contracts.run_info import Status
from promptflow.contracts.tool import ConnectionType
from promptflow.executor._flow_nodes_scheduler import FlowNodesScheduler

from pf_mlflow.running.engine.shortcuts import shortcuts

TEMPLATE = "system:\nBe funny.\n{# no input #}user:\n{{topic}}{% for one in more %} {{one.name}}{% endfor %}\n"


@pytest.mark.parametrize(
    ("replaced", "digest"),
    [
        (ConnectionType.is_connection_value, "d83c42412678"),
        (FlowNodesScheduler._submit_nodes, "9f0b27f8e7a2"),
        (FlowNodesScheduler._exec_single_node_in_thread, "9d6d61802e0b"),
        (promptflow.tracing._trace.get_input_names_for_prompt_template, "fd0dc2fd526b"),
        (promptflow.tracing._utils.serialize, "65dfe9b1b565"),
        (promptflow.tools.common.render_jinja_template, "a58af26f1e2c"),
    ],
)
def test_promptflow_is_as_it_was_read(replaced: Callable[..., Any], digest: str) -> None:
    """If this fails, read what changed, see that the shortcut still does the same, and measure it anew."""
    assert hashlib.sha256(inspect.getsource(replaced).encode()).hexdigest()[:12] == digest


def test_promptflow_has_its_own_back() -> None:
    def names() -> list[Any]:
        return [
            vars(ConnectionType)["is_connection_value"],
            FlowNodesScheduler._submit_nodes,
            promptflow.tracing._trace.get_input_names_for_prompt_template,
            promptflow.tracing._utils.serialize,
            promptflow.tools.common.SandboxedEnvironment,
        ]

    before = names()
    with shortcuts():
        assert not set(map(id, names())) & set(map(id, before))
    assert names() == before


@dataclass
class Point:
    x: int
    when: datetime


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        0.5,
        "text",
        Status.Completed,
        datetime(2026, 1, 2),
        [1, {"a": None}],
        {"b": {"c": (1, 2)}, 3: "three"},
        Point(1, datetime(2026, 1, 2)),
        {"points": [Point(2, datetime(2026, 1, 2))], "none": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("remove_null", [False, True])
def test_values_are_serialized_the_same(value: Any, remove_null: bool) -> None:
    expected = promptflow.tracing._utils.serialize(value, remove_null)
    with shortcuts():
        assert promptflow.tracing._utils.serialize(value, remove_null) == expected


@pytest.mark.parametrize(
    "value", [None, "text", 7, {"a": 1}, OpenAIConnection(api_key="x"), OpenAIConnection, dict, Point]
)
def test_connections_are_the_same(value: Any) -> None:
    expected = bool(ConnectionType.is_connection_value(value))
    with shortcuts():
        assert ConnectionType.is_connection_value(value) is expected


@pytest.mark.parametrize("trim_blocks", [False, True])
def test_prompts_are_the_same(trim_blocks: bool) -> None:
    render, values = promptflow.tools.common.render_jinja_template, {"topic": "tea", "more": [{"name": "milk"}]}
    expected = render(TEMPLATE, trim_blocks=trim_blocks, **values)
    with shortcuts():
        assert [render(TEMPLATE, trim_blocks=trim_blocks, **values) for _ in range(2)] == [expected, expected]
        assert render(TEMPLATE, trim_blocks=trim_blocks, topic="rum", more=[]) != expected


def test_names_of_a_prompt_are_the_same() -> None:
    expected = promptflow.tracing._trace.get_input_names_for_prompt_template(TEMPLATE)
    assert {"topic", "more"} <= set(expected)
    with shortcuts():
        assert [promptflow.tracing._trace.get_input_names_for_prompt_template(TEMPLATE) for _ in range(2)] == [
            expected,
            expected,
        ]
