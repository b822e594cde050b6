"""How the three nodes stand in a flow, and what its `flow.dag.yaml` lacks for child runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.adoption.yaml_edit import Edit, edited_yaml
from pf_mlflow.errors import BadInput

__all__ = ["CALLS", "TRACING", "Wiring", "find_in_flow", "included", "our_nodes", "package_calls", "traces"]

CALLS = {"initialize_mlflow": "open_line", "save_mlflow_tracking": "record_nodes", "finalize": "child_run_id"}
"""The three nodes and what their files call of this package."""
TRACING = "PF_DISABLE_TRACING"
_OUTPUT = "child_run_id"


def our_nodes(dag: Mapping[str, Any], flow_dir: Path) -> dict[str, str]:
    """Return which of the three nodes a flow has, by their files, and the names that they bear in it."""
    found: dict[str, str] = {}
    for node in _python_nodes(dag):
        path = find_in_flow(dag, flow_dir, str((node.get("source") or {}).get("path") or ""))
        called = package_calls(path) if path else set()
        found = {role: str(node["name"]) for role, call in CALLS.items() if call in called} | found
    return found


def _python_nodes(dag: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (node for node in dag["nodes"] if node.get("type") == "python")


def package_calls(source: Path) -> set[str]:
    """Return which functions of this package a Python file uses, whatever the file is called."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"), str(source))
    except (SyntaxError, ValueError):  # promptflow will tell its author
        return set()
    names: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and (part.module or "").partition(".")[0] == "pf_mlflow":
            names |= {alias.name for alias in part.names}
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "pf_mlflow":
            names.add(part.attr)
    return names


def find_in_flow(dag: Mapping[str, Any], flow_dir: Path, path: str) -> Path | None:
    """Return a file that a flow names, in its folder or among what it includes; `None` if it is in neither."""
    inside, below = included(dag, flow_dir), Path(path)
    places = [flow_dir / path, *(inside[top] / below.relative_to(top) for top in below.parts[:1] if top in inside)]
    return next((place for place in places if place.is_file()), None)


def included(dag: Mapping[str, Any], flow_dir: Path) -> dict[str, Path]:
    """Return what a flow includes from elsewhere, by the name that it gets in the flow."""
    entries = dag.get("additional_includes") or []
    return {Path(str(entry)).name: (flow_dir / str(entry)).resolve() for entry in entries}


def traces(dag: Mapping[str, Any]) -> bool:
    """Tell whether a flow switches promptflow's tracing on, by promptflow's own comparison."""
    return str((dag.get("environment_variables") or {}).get(TRACING, "true")).lower() != "true"


@dataclass(frozen=True)
class Wiring:
    """What a flow's YAML lacks, and how to put it there."""

    text: str
    dag: Mapping[str, Any]
    present: Mapping[str, str]
    """The nodes that are there, with their names."""
    folder: str
    """Where the node files are, below the flow's folder."""
    record: Sequence[str] = field(default_factory=tuple)
    """Nodes to record; none: every node that calls an LLM."""
    requirements: str | None = None
    """Requirements file to name, if the flow names no environment."""

    def edited(self) -> tuple[str, list[Edit]]:
        """Return the flow's text with what it lacks, and how to take that back.

        Raises:
            BadInput: it is written in a way that cannot be edited safely.
        """
        try:
            return edited_yaml(self.text, self.dag, self._wanted())
        except (ValueError, yaml.YAMLError) as error:
            raise BadInput(f"flow.dag.yaml cannot be edited safely: {error}.") from error

    def _wanted(self) -> dict[str, Any]:
        lacks: dict[str, dict[str, object]] = {}
        if "finalize" not in self.present and _OUTPUT not in (self.dag.get("outputs") or {}):
            lacks["outputs"] = {_OUTPUT: self._output()}
        if self.requirements:
            lacks["environment"] = {"python_requirements_txt": self.requirements}
        if not traces(self.dag):
            lacks["environment_variables"] = {TRACING: "false"}
        entries = {key: {**(self.dag.get(key) or {}), **added} for key, added in lacks.items()}
        first = [] if "initialize_mlflow" in self.present else [self._initialize()]
        return {**self.dag, **entries, "nodes": [*first, *self.dag["nodes"], *self._last()]}

    # The three nodes

    def _name(self, node: str) -> str:
        """Return the name of one of ours: its own, or with a number where the flow has another node of that name."""
        if node in self.present:
            return self.present[node]
        taken = {str(one["name"]) for one in self.dag["nodes"]}
        return next(name for number in range(1, 1000) if (name := f"{node}_{number}".removesuffix("_1")) not in taken)

    def _output(self) -> dict[str, object]:
        return {"type": "string", "reference": f"${{{self._name('finalize')}.output.child_run_id}}"}

    def _node(self, name: str, inputs: Mapping[str, object]) -> dict[str, object]:
        source = {"type": "code", "path": f"{self.folder}/{name}.py"}
        return {"name": self._name(name), "type": "python", "source": source, "inputs": dict(inputs)}

    def _initialize(self) -> dict[str, object]:
        return self._node("initialize_mlflow", {})

    def _last(self) -> list[dict[str, object]]:
        line = f"${{{self._name('initialize_mlflow')}.output}}"
        record = {"record_nodes": list(self.record)} if self.record else {}
        save = self._node("save_mlflow_tracking", {"result": f"${{{self.answer}.output}}", "line": line, **record})
        result = f"${{{self._name('save_mlflow_tracking')}.output}}"
        finalize = self._node("finalize", {"result": result, "line": line})
        return [node for role, node in zip(list(CALLS)[1:], (save, finalize), strict=True) if role not in self.present]

    @property
    def answer(self) -> str:
        """The node whose output is the flow's answer: the first that an output refers to, else the last of all."""
        lines = [str(node["name"]) for node in self.dag["nodes"] if not node.get("aggregation")]
        outputs = [one for one in (self.dag.get("outputs") or {}).values() if isinstance(one, dict)]
        outputs.sort(key=lambda output: not output.get("is_chat_output"))
        referred = (re.match(r"\$\{([^.}]+)\.output", str(output.get("reference"))) for output in outputs)
        ours = set(self.present.values())
        named = [match[1] for match in referred if match and match[1] in lines and match[1] not in ours]
        others = [name for name in lines if name not in ours]
        if not others:
            raise BadInput("The flow has no node of its own that is executed for each line.")
        return named[0] if named else others[-1]

    @property
    def silences_stream(self) -> bool:
        """Whether the answer came straight from an LLM node, which promptflow streams if no other node takes it."""
        node = next(node for node in self.dag["nodes"] if str(node["name"]) == self.answer)
        chats = "is_chat_output" in str(self.dag.get("outputs"))
        taken = f"${{{self.answer}.output" in str([one.get("inputs") for one in self.dag["nodes"]])
        return chats and node.get("type") in ("llm", "custom_llm") and not taken
