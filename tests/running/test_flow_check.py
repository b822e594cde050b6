"""What a flow's YAML names and what there is not is told with file, place and what there is, before its batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from machine import FLOWS, ROOT

from pf_mlflow.errors import BadInput
from pf_mlflow.running.flow_check import KINDS, TYPES, check_flow

PATH = Path("flow.dag.yaml")
BARE = yaml.safe_load((FLOWS / "bare" / PATH).read_text("utf-8"))
VARIANTS = {
    "v0": {"node": BARE["nodes"][0]},
    "v1": {"node": {**BARE["nodes"][0], "inputs": {"topic": "${inputs.subject}"}}},
}
VARIED = {
    **BARE,
    "nodes": [{"name": "joke", "use_variants": True}, BARE["nodes"][1]],
    "node_variants": {"joke": {"default_variant_id": "v0", "variants": VARIANTS}},
}


def test_kinds_and_types_are_promptflows() -> None:
    from promptflow.contracts.tool import ToolType, ValueType

    assert set(KINDS) == {kind.value for kind in ToolType if not kind.name.startswith("_")}
    assert set(TYPES) == {kind.value for kind in ValueType}


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("*/flow.dag.yaml"), *ROOT.glob("examples/*/flow.dag.yaml"), *FLOWS.glob("**/flow.dag.yaml")]),
    ids=lambda path: path.parent.name,
)
def test_flows_that_run_are_taken(path: Path) -> None:
    dag = yaml.safe_load(path.read_text("utf-8"))
    if "nodes" in dag:
        check_flow(dag, path, None, {})


def put(*place: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts the last word at a place of a flow."""
    *above, key, value = place

    def change(dag: dict[str, Any]) -> None:
        for one in above:
            dag = dag[one]
        dag[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("nodes", 0, "type", "lllm"), "flow.dag.yaml node 'joke' is of type 'lllm'; there are llm, python, prompt"),
        (put("inputs", "topic", "type", "strin"), "flow.dag.yaml input 'topic' is of type 'strin'; there are string, int"),
        (put("outputs", "answer", "type", "text"), "flow.dag.yaml output 'answer' is of type 'text'"),
        (put("inputs", "topic", {}), "gives 'topic' under 'inputs' no type; write `type: string`."),
        (put("inputs", "topic", None), "gives 'topic' under 'inputs' no type"),
        (
            put("nodes", 1, "inputs", "text", "${jok.output}"),
            "flow.dag.yaml input 'text' of node 'shout' is ${jok.output}, but there is no node 'jok', only joke, shout.",
        ),
        (put("nodes", 1, "inputs", "text", "${jok}"), "there is no node 'jok'"),
        (put("nodes", 1, "activate", {"when": "${jok.output}", "is": True}), "the condition of node 'shout' is ${jok.o"),
        (put("outputs", "answer", "reference", "${jok.output}"), "output 'answer' is ${jok.output}, but there is no node"),
        (
            put("nodes", 0, "inputs", "topic", "${inputs.topik}"),
            "is ${inputs.topik}, but there is no input of the flow 'topik', only topic.",
        ),
        (
            lambda dag: dag["nodes"][0].pop("connection"),
            "node 'joke' names no connection; write `connection: open_ai_connection` there, or say --connections joke.c",
        ),
        (put("nodes", 1, "inputs", "text", "costs ${5}, ${joke.output} and ${inputs.topik}"), None),
        (put("nodes", 1, "inputs", "text", "${joke.output.deep.er}"), None),
        (put("nodes", 1, "inputs", "text", "${inputs.topic.deep}"), None),
        (lambda dag: [put("inputs", "a.b", {"type": "int"})(dag), put("nodes", 1, "inputs", "n", "${inputs.a.b}")(dag)], None),
        (put("nodes", 1, "inputs", None), None),
    ],
)  # fmt: skip
def test_what_there_is_not_is_told_with_what_there_is(
    change: Callable[[dict[str, Any]], None], told: str | None
) -> None:
    dag = copy.deepcopy(BARE)
    change(dag)
    if told is None:
        return check_flow(dag, PATH, None, {})
    with pytest.raises(BadInput) as raised:
        check_flow(dag, PATH, None, {})
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        (None, None),
        ("${joke.v0}", None),
        ("${joke.v1}", "is ${inputs.subject}, but there is no input of the flow 'subject'"),
        ("${joke.v2}", "has no variant '${joke.v2}'; there are ${joke.v0}, ${joke.v1}."),
        ("joke.v0", "has no variant 'joke.v0'"),
        ("${shout.v0}", "has no variant '${shout.v0}'"),
    ],
)
def test_the_variant_that_runs_is_checked(variant: str | None, told: str | None) -> None:
    if told is None:
        return check_flow(VARIED, PATH, variant, {})
    with pytest.raises(BadInput) as raised:
        check_flow(VARIED, PATH, variant, {})
    assert told in str(raised.value)


def test_a_connection_for_a_node_that_there_is_not() -> None:
    with pytest.raises(BadInput, match="has no node 'jok', which is given a connection; there are joke, shout."):
        check_flow(BARE, PATH, None, {"jok": {"connection": "mine"}})


def test_a_connection_may_be_given_by_the_command() -> None:
    dag = copy.deepcopy(BARE)
    del dag["nodes"][0]["connection"]
    check_flow(dag, PATH, None, {"joke": {"connection": "mine"}})
