"""What a flow is by its YAML: the nodes of a DAG flow and their variants, a flex flow, a prompty."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.errors import BadInput
from pf_mlflow.records.line import SAVES

__all__ = [
    "DAG",
    "FLEX",
    "Flow",
    "FlowNodes",
    "evaluates",
    "flex_file",
    "flow_nodes",
    "llm_calls",
    "node_names",
    "node_shapes",
    "read_dag",
    "read_flow",
    "saves_scores",
    "shapes_of",
    "shapes_that_run",
    "variants_of",
    "yaml_fault",
]

DAG = "flow.dag.yaml"
FLEX = "flow.flex.yaml"
_YAML = (".yaml", ".yml")
_MAPPINGS = ("inputs", "environment_variables")
_LLM = {"llm", "custom_llm"}


@dataclass(frozen=True)
class Flow:
    """What can be run as a batch: its folder, what its YAML says, and its inputs, `None` where only its code knows."""

    folder: Path
    definition: Mapping[str, Any]
    inputs: Mapping[str, Any] | None
    is_dag: bool


def read_flow(path: Path) -> Flow:
    """Return the flow at a path: its folder, its YAML file, or a prompty.

    Raises:
        BadInput: there is none that can be read.
    """
    if path.suffix.lower() == ".prompty":
        front = _settings(path, _front_matter(path))
        return Flow(path.resolve().parent, front, front.get("inputs") or {}, is_dag=False)
    if flex := flex_file(path):
        from pf_mlflow.sources.promptflow.flex_inputs import entry_inputs  # which no worker of a DAG needs

        definition = _settings(flex, _parsed(flex, flex))
        folder = flex.resolve().parent
        inputs = definition.get("inputs") or entry_inputs(folder, str(definition.get("entry") or ""))
        return Flow(folder, definition, inputs, is_dag=False)
    dag = read_dag(path)
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return Flow(folder, dag, dag.get("inputs") or {}, is_dag=True)


def flex_file(path: Path) -> Path | None:
    """Return the file of the flex flow at a path, `None` if there is none: an entry makes one, whatever its name."""
    files = [path / FLEX, path / DAG] if path.is_dir() else [path]
    file = next((one for one in files if one.is_file()), None)
    if file is None or file.name == FLEX:
        return file
    if file.suffix.lower() not in _YAML:
        return None
    found = _parsed(file, file)
    return file if isinstance(found, dict) and "entry" in found and "nodes" not in found else None


def _front_matter(path: Path) -> Any:
    """Return what a prompty says between its first two lines `---`."""
    if not path.is_file():
        raise BadInput(f"There is no prompty at {str(path)!r}; name a file, or the folder of a flow.")
    parts = path.read_text(encoding="utf-8").split("\n---", 1)
    if not parts[0].startswith("---") or len(parts) < 2:
        raise BadInput(f"{path} is no prompty: it does not begin with settings between two lines `---`.")
    return _parsed(path, parts[0][3:])


def read_dag(flow: Path) -> Mapping[str, Any]:
    """Return the `flow.dag.yaml` of a flow's folder; raise `BadInput` if there is none that can be read."""
    path = flow / DAG if flow.is_dir() else flow
    if not path.is_file():
        raise BadInput(f"There is no flow at {str(flow)!r}: {path} does not exist. Name the folder of a {DAG}.")
    if path.suffix.lower() not in _YAML:
        raise BadInput(f"{path} is no flow; name the folder of one, its YAML file, or a prompty.")
    dag = _parsed(path, path)
    if not isinstance(dag, dict) or not isinstance(dag.get("nodes"), list):
        raise BadInput(f"{path} has no list of nodes; only DAG flows can be run here.")
    if unnamed := [node for node in dag["nodes"] if not isinstance(node, dict) or "name" not in node]:
        raise BadInput(f"{path} has a node without a name: {unnamed[0]!r}.")
    return _settings(path, dag, (*_MAPPINGS, "outputs", "environment"))


def _parsed(path: Path, source: Path | str) -> Any:
    try:
        return _loaded(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no valid YAML, {yaml_fault(error)}; mend it there.") from error


def yaml_fault(error: Exception) -> str:
    """Return where a text is no YAML, and why."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())


class _Yaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads as promptflow does, by YAML 1.2: `yes`, `no`, `on` and `off` are texts, as names of inputs may be."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if first in "tTfF" or not tag.endswith(":bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@lru_cache(maxsize=16)
def _loaded(text: str) -> Any:
    """Return what a YAML says, for several readers who leave it as it is."""
    return yaml.load(text, _Yaml)


def _settings(path: Path, found: Any, mappings: tuple[str, ...] = _MAPPINGS) -> Mapping[str, Any]:
    """Return what was read if it is a mapping, and what stands under some of its keys as well."""
    if not isinstance(found, dict):
        raise BadInput(f"{path} has no settings by name.")
    for key in mappings:
        if not isinstance(found.get(key) or {}, dict):
            raise BadInput(f"{path} has no names under {key!r}, only {found[key]!r}.")
    return found


def variants_of(dag: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    """Return a node's variants by name."""
    found = ((dag.get("node_variants") or {}).get(node) or {}).get("variants") or {}
    return {name: (variant or {}).get("node") or {} for name, variant in found.items()}


def shapes_of(dag: Mapping[str, Any], node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a node as it is written and in all its variants."""
    return [node, *variants_of(dag, node["name"]).values()]


def shapes_that_run(dag: Mapping[str, Any], variant: str | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the nodes of a flow by name, each in its variant that runs.

    Args:
        dag: The flow; without nodes nothing is yielded.
        variant: The one that is chosen, `${NODE.VARIANT}`; other nodes run their default one.
    """
    chosen_node, _, chosen = (variant or "").removeprefix("${").removesuffix("}").partition(".")
    for node in dag.get("nodes") or []:
        name = node["name"]
        default = ((dag.get("node_variants") or {}).get(name) or {}).get("default_variant_id")
        if chosen_node == name or node.get("use_variants"):
            yield name, variants_of(dag, name).get(chosen if chosen_node == name else str(default)) or {}
        else:
            yield name, node


def llm_calls(dag: Mapping[str, Any], variant: str | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield each LLM node of a flow with its connection and its model, by the variant that runs."""
    for name, node in shapes_that_run(dag, variant):
        if node.get("type") == "llm" and node.get("connection"):
            yield name, str(node["connection"]), str((node.get("inputs") or {}).get("model") or "")


def node_shapes(dag: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the nodes of a flow by name, each as it is written and in all its variants."""
    for node in dag["nodes"]:
        yield from ((str(node["name"]), shape) for shape in shapes_of(dag, node))


@dataclass(frozen=True)
class FlowNodes:
    """What a flow's YAML says of the nodes that each line executes."""

    all: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    """Nodes that the literal `record_nodes` input of a node names."""
    aggregates: bool = False
    """Whether the flow also has nodes that sum all lines up."""
    handed_on: Mapping[str, str] = field(default_factory=dict)
    """The flow's outputs that are the whole output of a node, by that node."""

    def shown_outputs(self, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those of the flow's outputs that may be what is shown as a line's: one node's, where one is shown."""
        shown = self.named or self.llm
        if len(shown) != 1:
            return outputs
        return {name: value for name, value in outputs.items() if name == self.handed_on.get(shown[0])}


def flow_nodes(folder: Path) -> FlowNodes:
    """Return the nodes of the DAG flow in a folder, `FlowNodes()` if there is none; read anew where it has changed."""
    path = folder / DAG
    try:
        stat = path.stat()
    except OSError:
        return FlowNodes()
    return _nodes(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _nodes(path: Path, _mtime_ns: int, _size: int) -> FlowNodes:
    try:
        dag = read_dag(path)
    except BadInput:
        return FlowNodes()
    nodes = [node for node in dag["nodes"] if not node.get("aggregation")]
    names = tuple(node["name"] for node in nodes)
    llm = tuple(node["name"] for node in nodes if any(shape.get("type") in _LLM for shape in shapes_of(dag, node)))
    named = next((n for node in nodes if (n := node_names((node.get("inputs") or {}).get("record_nodes")))), ())
    return FlowNodes(names, llm, named, len(nodes) < len(dag["nodes"]), _handed_on(dag))


def _handed_on(dag: Mapping[str, Any]) -> dict[str, str]:
    references = {name: str((output or {}).get("reference")) for name, output in (dag.get("outputs") or {}).items()}
    found = {name: re.fullmatch(r"\$\{([^.{}]+)\.output\}", reference) for name, reference in references.items()}
    return {match[1]: name for name, match in found.items() if match}


def evaluates(folder: Path) -> bool:
    """Tell whether the DAG flow in a folder scores the lines of the batch it runs on: it sums up, or saves scores."""
    return flow_nodes(folder).aggregates or saves_scores(folder)


def saves_scores(folder: Path) -> bool:
    """Tell whether a node of the DAG flow in a folder hands scores on that MLflow is to show."""
    try:
        return any(_is_saving(node, folder) for node in read_dag(folder)["nodes"] if not node.get("aggregation"))
    except BadInput:
        return False


def _is_saving(node: Mapping[str, Any], folder: Path) -> bool:
    path = folder / str((node.get("source") or {}).get("path", ""))
    try:
        return path.stem == SAVES or (path.suffix == ".py" and f"def {SAVES}(" in path.read_text("utf-8"))
    except (OSError, ValueError):  # it is among what the flow includes
        return False


def node_names(value: object) -> tuple[str, ...]:
    """Return the node names in a `record_nodes` value: a list, or text with commas; `${…}` is not known yet."""
    if isinstance(value, str):
        value = [] if value.startswith("${") else value.split(",")
    return tuple(str(name).strip() for name in value if str(name).strip()) if isinstance(value, (list, tuple)) else ()
