"""What a flow's YAML says of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.records.saved_scores import SAVES

__all__ = ["FlowNodes", "flow_nodes", "node_names"]


@dataclass(frozen=True)
class FlowNodes:
    """What a flow's YAML says of the nodes that each line executes."""

    all: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    """Nodes that the literal `record_nodes` input of a node names."""
    aggregates: bool = False
    """Whether the flow also has nodes that sum all lines up."""
    saves_scores: bool = False
    """Whether a node hands scores on that MLflow is to show."""


@lru_cache(maxsize=16)
def flow_nodes(flow_dir: Path) -> FlowNodes:
    """Return the nodes of the flow in a folder; nothing if it has no readable `flow.dag.yaml`."""
    try:
        dag = yaml.safe_load((flow_dir / "flow.dag.yaml").read_text(encoding="utf-8"))
        nodes = [node for node in dag["nodes"] if not node.get("aggregation")]
        aggregates = len(nodes) < len(dag["nodes"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return FlowNodes()
    named = next((n for node in nodes if (n := node_names((node.get("inputs") or {}).get("record_nodes")))), ())
    llm = tuple(node["name"] for node in nodes if {node.get("type"), _variant_type(dag, node)} & {"llm", "custom_llm"})
    saves = any(_saves_scores(node, flow_dir) for node in nodes)
    return FlowNodes(tuple(node["name"] for node in nodes), llm, named, aggregates, saves)


def _saves_scores(node: Mapping[str, Any], flow_dir: Path) -> bool:
    path = flow_dir / str((node.get("source") or {}).get("path", ""))
    try:
        return path.stem == SAVES or (path.suffix == ".py" and f"def {SAVES}(" in path.read_text("utf-8"))
    except (OSError, ValueError):  # it is among what the flow includes
        return False


def _variant_type(dag: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    variants = ((dag.get("node_variants") or {}).get(node.get("name")) or {}).get("variants") or {}
    return next((variant["node"].get("type") for variant in variants.values() if variant.get("node")), None)


def node_names(value: object) -> tuple[str, ...]:
    """Return the node names in a `record_nodes` value: a list, or text with commas; `${…}` is not known yet."""
    if isinstance(value, str):
        value = [] if value.startswith("${") else value.split(",")
    return tuple(str(name).strip() for name in value if str(name).strip()) if isinstance(value, (list, tuple)) else ()
