from __future__ import annotations

from pathlib import Path

import pytest

from pf_mlflow.sources.promptflow.flow import DAG, FlowNodes, flow_nodes, node_names, read_dag, read_flow, saves_scores

VARIANTS = """
nodes:
- {name: rate, use_variants: true}
- {name: plain, type: python}
node_variants:
  rate: {default_variant_id: v0, variants: {v0: {node: {type: llm}}, v1: {node: {type: llm}}}}
"""


@pytest.mark.parametrize(
    "dag, expected",
    [
        (b"nodes: [{name: a, type: llm}, {name: b, type: python}]", FlowNodes(("a", "b"), ("a",), ())),
        (VARIANTS.encode(), FlowNodes(("rate", "plain"), ("rate",), ())),
        (b"nodes: [{name: a, inputs: {record_nodes: 'x, y'}}]", FlowNodes(("a",), (), ("x", "y"))),
        (b"nodes: [{name: a, inputs: {record_nodes: '${inputs.n}'}}]", FlowNodes(("a",), (), ())),
        (b"nodes: [{name: a, inputs: }]", FlowNodes(("a",), (), ())),
        (
            b"nodes: [{name: a, type: llm}, {name: b, type: llm, aggregation: true}]",
            FlowNodes(("a",), ("a",), (), aggregates=True),
        ),
        (
            b"nodes: [{name: keep, source: {path: nodes/save_scores.py}}, {name: sum, aggregation: true}]",
            FlowNodes(("keep",), (), (), aggregates=True),
        ),
        (b"nodes: []", FlowNodes()),
        (b"nodes:", FlowNodes()),
        (b"nodes: 5", FlowNodes()),
        (b"entry: flow:main", FlowNodes()),
        (b"- a list", FlowNodes()),
        (b"{", FlowNodes()),
        (b"", FlowNodes()),
        (b"nodes: [{name: \xe9t\xe9, type: llm}]", FlowNodes()),
        (None, FlowNodes()),
    ],
)
def test_flow_nodes(tmp_path: Path, dag: bytes | None, expected: FlowNodes) -> None:
    if dag is not None:
        (tmp_path / "flow.dag.yaml").write_bytes(dag)
    assert flow_nodes(tmp_path) == expected


def test_a_flow_that_is_edited_is_read_anew(tmp_path: Path) -> None:
    for nodes in ("[{name: a}]", "[{name: a}, {name: b}]"):
        (tmp_path / "flow.dag.yaml").write_text(f"nodes: {nodes}")
        assert len(flow_nodes(tmp_path).all) == nodes.count("name")


@pytest.mark.parametrize(
    "node, expected",
    [
        ("{name: keep, source: {path: nodes/save_scores.py}}", True),
        ("{name: keep, source: {path: mine.py}}", True),
        ("{name: keep, source: {path: others.py}}", False),
        ("{name: keep, source: {path: mine.py}, aggregation: true}", False),
        ("{name: keep}", False),
    ],
)
def test_a_node_that_saves_scores(tmp_path: Path, node: str, expected: bool) -> None:
    (tmp_path / "flow.dag.yaml").write_text(f"nodes: [{node}]")
    (tmp_path / "mine.py").write_text("def save_scores(scores):\n    return scores\n")
    (tmp_path / "others.py").write_text("def score(answer):\n    return 1\n")
    assert saves_scores(tmp_path) == expected
    assert not saves_scores(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "value, expected",
    [
        (["joke", " py ", "", 5], ("joke", "py", "5")),
        ("joke, py,", ("joke", "py")),
        ("${inputs.nodes}", ()),
        ("", ()),
        ([], ()),
        (None, ()),
        (5, ()),
        ({"a": 1}, ()),
    ],
)
def test_node_names(value: object, expected: tuple[str, ...]) -> None:
    assert node_names(value) == expected


def test_a_file_is_parsed_once_for_all_its_readers_until_it_says_something_else(tmp_path: Path) -> None:
    inputs = "".join(f"  i{number}: {{type: string, default: '東京 {number}'}}\n" for number in range(3))
    (tmp_path / DAG).write_text(f"inputs:\n{inputs}nodes: [{{name: joke, type: llm}}]\n", encoding="utf-8")
    first = read_flow(tmp_path)
    assert first.definition["nodes"] is read_dag(tmp_path)["nodes"] and first.inputs is read_flow(tmp_path / DAG).inputs
    (tmp_path / DAG).write_text(f"inputs:\n{inputs}nodes: [{{name: poem, type: llm}}]\n", encoding="utf-8")
    assert [node["name"] for dag in (read_dag(tmp_path), first.definition) for node in dag["nodes"]] == ["poem", "joke"]
