from __future__ import annotations

from typing import Any

import pytest
import yaml

from pf_mlflow.running.model_choice import DEFAULT_CONNECTION, ConnectionUse, connection_uses, overrides

VARIANTS = """
nodes:
- {name: rate, use_variants: true}
node_variants:
  rate:
    default_variant_id: v0
    variants:
      v0: {node: {type: llm, connection: mine}}
      v1: {node: {type: llm, connection: open_ai_connection}}
"""


@pytest.mark.parametrize(
    "dag, expected",
    [
        (
            "nodes: [{name: joke, type: llm, connection: open_ai_connection}]",
            [ConnectionUse("joke", ("connection",), True)],
        ),
        ("nodes: [{name: joke, type: llm, connection: mine}]", []),
        (
            "nodes: [{name: py, inputs: {conn: open_ai_connection, text: hello}}]",
            [ConnectionUse("py", ("conn",), False)],
        ),
        (
            "nodes: [{name: py, inputs: {a: open_ai_connection, b: open_ai_connection}}, {name: other}]",
            [ConnectionUse("py", ("a", "b"), False)],
        ),
        (  # an input that happens to be called so does not make an LLM node
            "nodes: [{name: py, type: python, inputs: {connection: open_ai_connection}}]",
            [ConnectionUse("py", ("connection",), False)],
        ),
        (VARIANTS, [ConnectionUse("rate", ("connection",), True)]),
        ("nodes: [{name: py, inputs: }]\nnode_variants: ", []),
        ("nodes: []", []),
        ("nodes: ", []),
        ("{}", []),
    ],
)
def test_uses_of_the_connection(dag: str, expected: list[ConnectionUse]) -> None:
    assert connection_uses(yaml.safe_load(dag), DEFAULT_CONNECTION) == expected


LLM, TOOL = ConnectionUse("joke", ("connection",), True), ConnectionUse("py", ("a", "connection"), False)
ANOTHER = {"connection": "c1", "model": "gpt-x", "deployment_name": "gpt-x"}


@pytest.mark.parametrize(
    "uses, model, expected",
    [
        ([LLM], "gpt-x", {"joke": ANOTHER}),
        ([LLM], None, {"joke": {"connection": "c1"}}),
        ([LLM], "", {"joke": {"connection": "c1"}}),
        ([TOOL], "gpt-x", {"py": {"a": "c1", "connection": "c1"}}),  # it has no model to set
        ([LLM, TOOL], "gpt-x", {"joke": ANOTHER, "py": {"a": "c1", "connection": "c1"}}),
        ([], "gpt-x", {}),
    ],
)
def test_overrides(uses: list[ConnectionUse], model: str | None, expected: dict[str, Any]) -> None:
    assert overrides(uses, "c1", model) == expected
