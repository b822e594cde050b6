"""What is checked of a DAG flow's YAML: promptflow would say it when the batch has begun, and not where to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.running.model_choice import Connections
from pf_mlflow.sources.promptflow.flow import node_shapes, shapes_that_run, variants_of

__all__ = ["KINDS", "TYPES", "check_flow"]

KINDS = ("llm", "python", "prompt", "custom_llm", "csharp")
"""Of nodes."""
TYPES = (
    *("string", "int", "double", "bool", "list", "object", "image"),
    *("file_path", "secret", "prompt_template", "assistant_definition"),
)
"""Of a flow's inputs and outputs."""
_REFERENCE = re.compile(r"\$\{([^{}.]+)(?:\.([^{}]*))?\}")
_INPUTS = ("inputs", "flow")
"""What a reference to an input of the flow begins with."""


def check_flow(dag: Mapping[str, Any], path: Path, variant: str | None, connections: Connections) -> None:
    """Raise `BadInput` if a flow names a kind, type, variant, node or input that there is not, or no connection.

    Args:
        dag: The flow, as its YAML says.
        path: That file.
        variant: The one that is chosen, `${NODE.VARIANT}`; other nodes run their default one.
        connections: What nodes are given in place of the flow's connections.
    """
    for name, shape in node_shapes(dag):
        if "type" in shape and shape["type"] not in KINDS:
            raise BadInput(f"{path} node {name!r} is of type {shape['type']!r}; there are {', '.join(KINDS)}.")
    nodes = [str(node["name"]) for node in dag["nodes"]]
    if strange := next((name for name in connections if name not in nodes), None):
        raise BadInput(f"{path} has no node {strange!r}, which is given a connection; there are {', '.join(nodes)}.")
    _check_variant(dag, path, variant)
    _check_types(dag, path)
    shapes = list(shapes_that_run(dag, variant))
    for where, value in _references(dag, shapes):
        _check_reference(dag, path, where, value)
    for name, shape in shapes:
        if shape.get("type") == "llm" and not (shape.get("connection") or connections.get(name, {}).get("connection")):
            raise BadInput(
                f"{path} node {name!r} names no connection; write `connection: open_ai_connection` there, or say "
                f"--connections {name}.connection=NAME."
            )


def _check_variant(dag: Mapping[str, Any], path: Path, variant: str | None) -> None:
    if variant is None:
        return
    known = [f"${{{node['name']}.{name}}}" for node in dag["nodes"] for name in variants_of(dag, node["name"])]
    if variant not in known:
        raise BadInput(f"{path} has no variant {variant!r}; there are {', '.join(known) or 'none'}.")


def _check_types(dag: Mapping[str, Any], path: Path) -> None:
    for kind in ("inputs", "outputs"):
        for name, spec in (dag.get(kind) or {}).items():
            if not isinstance(spec, Mapping) or "type" not in spec:
                raise BadInput(f"{path} gives {name!r} under {kind!r} no type; write `type: string`.")
            if spec["type"] not in TYPES:
                raise BadInput(
                    f"{path} {kind[:-1]} {name!r} is of type {spec['type']!r}; there are {', '.join(TYPES)}."
                )


def _references(dag: Mapping[str, Any], shapes: list[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Any]]:
    """Yield what may refer to a node or an input, with the place where it stands."""
    for name, shape in shapes:
        for key, value in (shape.get("inputs") or {}).items():
            yield f"input {key!r} of node {name!r}", value
        yield f"the condition of node {name!r}", (shape.get("activate") or {}).get("when")
    for name, spec in (dag.get("outputs") or {}).items():
        yield f"output {name!r}", spec.get("reference")


def _check_reference(dag: Mapping[str, Any], path: Path, where: str, value: object) -> None:
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        return
    kind, known, name = "node", [str(node["name"]) for node in dag["nodes"]], found[1]
    if name in _INPUTS and found[2] is not None:
        kind, known, name = "input of the flow", list(dag.get("inputs") or {}), found[2]
        name = name if name in known else name.split(".")[0]
    if name not in known:
        raise BadInput(
            f"{path} {where} is {value}, but there is no {kind} {name!r}, only {', '.join(known) or 'none'}."
        )
