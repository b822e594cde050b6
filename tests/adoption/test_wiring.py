"""What `flow.dag.yaml` gets, in whatever style it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import FLOWS, ROOT
from ruamel.yaml import YAML

from pf_mlflow.adoption.wiring import CALLS, Wiring, find_in_flow, our_nodes, traces
from pf_mlflow.adoption.yaml_edit import taken_back
from pf_mlflow.errors import BadInput

PUBLIC = FLOWS / "public"
ONE = """\
nodes:
- name: llm
  type: llm
"""


def wiring(text: str, **changes: Any) -> Wiring:
    return Wiring(text, yaml.safe_load(text), **{"present": {}, "folder": "nodes", **changes})


def edited(text: str, **changes: Any) -> dict[str, Any]:
    """The flow after the edits; every line of before is still there, in order, and they can be taken back."""
    new, edits = wiring(text, **changes).edited()
    assert taken_back(new, edits) == text
    rest = iter(new.removeprefix("\ufeff").splitlines())
    assert all(
        line in rest
        for line in text.removeprefix("\ufeff").splitlines()
        if "PF_DISABLE_TRACING" not in line and "{" not in line
    )
    return yaml.safe_load(new)


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        "---\n" + ONE,
        "# head\n\n" + ONE + "\n# tail\n",
        ONE.rstrip(),
        ONE.replace("\n", "\r\n"),
        "\ufeff" + ONE,
        "nodes:\n    -   name: llm\n        type: llm\n",
        "nodes:\n  # about the first\n  - name: llm\n    type: llm   # an LLM\n  # what follows\noutputs: {}\n",
        ONE + "outputs:\n  a: {type: string, reference: '${llm.output}'}\n",
        ONE + "outputs: {a: {type: string, reference: '${llm.output}'}}\n",
        ONE + "  text: |\n    some\n\n    prose\n\n\nenvironment_variables:\n",
        "a: &x {k: v}\n" + ONE + "  inputs: *x\noutputs: {}\n",
        ONE + "environment_variables: {}\n",
        ONE + "environment_variables: {A: '1'}  # mine\n",
        ONE + "environment_variables:\n    A: 1\n    PF_DISABLE_TRACING: 'true'\n",
        ONE + "environment_variables:\n  PF_DISABLE_TRACING: true # too slow\nnode_variants: {}",
        "- nodes: x\n".replace("- ", "inputs: {}\n# c\n").replace("nodes: x", ONE.strip()),
    ],
)
def test_any_style_is_kept(text: str) -> None:
    dag = edited(text)
    assert [node["name"] for node in dag["nodes"]] == ["initialize_mlflow", "llm", "save_mlflow_tracking", "finalize"]
    assert dag["outputs"]["child_run_id"] == {"type": "string", "reference": "${finalize.output.child_run_id}"}
    assert traces(dag) and dag["environment_variables"]["PF_DISABLE_TRACING"] == "false"
    before = yaml.safe_load(text)
    assert dag["nodes"][1:2] == before["nodes"]
    for key in ("outputs", "environment_variables", "inputs", "node_variants"):
        kept = {k: v for k, v in (before.get(key) or {}).items() if k != "PF_DISABLE_TRACING"}
        assert kept.items() <= (dag.get(key) or {}).items()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{nodes: [{name: llm}]}", "one key a line"),
        ("nodes: [{name: llm}]\n", "one item below the other"),
        ("a: &x\n  name: llm\nnodes:\n- *x\noutputs: {}\n", "cannot be edited safely"),
        (ONE + "environment_variables:\n  PF_DISABLE_TRACING: >-\n    true\n", "no single value"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        wiring(text).edited()


names = st.text("abz_ -.:#'\"{}[]|>&*!%@ü質", min_size=1, max_size=8).filter(lambda name: name.strip() == name)
nested = st.recursive(names | st.none() | st.booleans(), lambda x: st.lists(x, max_size=2) | st.dictionaries(names, x))


@given(st.lists(names, min_size=1, max_size=4, unique=True), nested, st.integers(2, 6), st.booleans(), st.booleans())
@settings(deadline=None)
def test_any_flow_is_edited_rightly_or_refused(
    nodes: list[str], value: Any, indent: int, flow: bool, crlf: bool
) -> None:
    dag = {
        "inputs": {"question": {"type": "string", "default": value}},
        "outputs": {"a": {"type": "string", "reference": f"${{{nodes[0]}.output}}"}},
        "nodes": [{"name": name, "type": "python", "inputs": {"x": value}} for name in nodes],
        "more": value,
    }
    text = yaml.safe_dump(
        dag, indent=indent, sort_keys=False, allow_unicode=True, default_flow_style=None if flow else False
    )
    text = text.replace("\n", "\r\n") if crlf else text
    try:
        new, edits = wiring(text).edited()
    except BadInput:
        return
    came_out = yaml.safe_load(new)
    before = yaml.safe_load(text)
    assert came_out["nodes"][1:-2] == before["nodes"] and came_out["more"] == before["more"]
    assert taken_back(new, edits) == text


@pytest.mark.parametrize(
    ("flow", "answer", "streams"),
    [
        ("basic-llm", "llm", False),
        ("variants", "convert_to_dict", False),
        ("chat", "chat", True),
        ("if-else", "generate_result", False),
        ("evaluation", "grade", False),
        ("several-llm", "summarize", False),
    ],
)
def test_the_answer_is_what_the_outputs_refer_to(flow: str, answer: str, streams: bool) -> None:
    text = (PUBLIC / flow / "flow.dag.yaml").read_text("utf-8")
    assert wiring(text).answer == answer and wiring(text).silences_stream is streams


def test_names_that_are_taken_get_a_number() -> None:
    text = "nodes:\n- name: finalize\n  type: llm\n- name: finalize_2\n  type: llm\n"
    dag = edited(text)
    assert dag["nodes"][-1]["name"] == "finalize_3"
    assert dag["nodes"][-2]["inputs"]["result"] == "${finalize_2.output}"  # the last node, without any output named
    assert dag["outputs"]["child_run_id"]["reference"] == "${finalize_3.output.child_run_id}"


def test_a_flow_of_our_nodes_alone_is_refused() -> None:
    with pytest.raises(BadInput, match="no node of its own"):
        wiring("nodes:\n- name: start\n", present={"initialize_mlflow": "start"}).edited()


def test_only_what_is_missing_is_added() -> None:
    dag = edited(ONE, present={"initialize_mlflow": "start"}, record=["llm"], requirements="r.txt")
    assert [node["name"] for node in dag["nodes"]] == ["llm", "save_mlflow_tracking", "finalize"]
    assert dag["nodes"][1]["inputs"] == {"result": "${llm.output}", "line": "${start.output}", "record_nodes": ["llm"]}
    assert dag["environment"] == {"python_requirements_txt": "r.txt"}


@pytest.mark.parametrize(
    "before",
    [
        "environment:\n",
        "environment: {}  # none yet\n",
        "environment_variables:\n",
        "environment_variables:\n  A: '1'\n",
        "environment_variables:\n  A: '1'\nenvironment:\n",
        "environment:\nenvironment_variables:\n  A: '1'\n",
        "outputs:\n",
    ],
)
def test_keys_that_end_where_new_ones_begin_stay_whole(before: str) -> None:
    new, _ = wiring(before + ONE, requirements="r.txt").edited()
    dag = YAML(typ="safe").load(new)  # as promptflow reads it: a key that is there twice is an error
    assert dag["environment"] == {"python_requirements_txt": "r.txt"}
    assert traces(dag) and "child_run_id" in dag["outputs"]


@pytest.mark.parametrize(
    ("flow", "found"),
    [
        (ROOT, dict.fromkeys(CALLS)),
        (FLOWS / "edge", dict.fromkeys(CALLS)),
        (FLOWS / "score", {"initialize_mlflow": None}),
        (PUBLIC / "names-taken", {}),
        (FLOWS / "bare", {}),
    ],
    ids=["own", "included", "one of three", "only the names", "none"],
)
def test_the_three_nodes_are_told_by_their_files(flow: Path, found: dict[str, None]) -> None:
    dag = yaml.safe_load((flow / "flow.dag.yaml").read_text("utf-8"))
    assert our_nodes(dag, flow) == {name: name for name in found}


def test_files_are_found_where_the_flow_finds_them() -> None:
    flow = PUBLIC / "additional-includes"
    dag = yaml.safe_load((flow / "flow.dag.yaml").read_text("utf-8"))
    assert find_in_flow(dag, flow, "summarize.jinja2") == PUBLIC / "variants" / "summarize.jinja2"
    assert find_in_flow(dag, flow, "several-llm/translate.jinja2") == PUBLIC / "several-llm" / "translate.jinja2"
    assert find_in_flow(dag, flow, "data.jsonl") == flow / "data.jsonl"
    assert find_in_flow(dag, flow, "nowhere.py") is None


@pytest.mark.parametrize(
    ("value", "on"), [("false", True), (False, True), ("False", True), ("true", False), (True, False), (None, False)]
)
def test_tracing_is_on_as_promptflow_sees_it(value: Any, on: bool) -> None:
    assert traces({"environment_variables": {} if value is None else {"PF_DISABLE_TRACING": value}}) is on
