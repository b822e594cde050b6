"""Reads what can be run as a batch: a DAG flow, a flex flow or a prompty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.errors import BadInput

__all__ = ["Runnable", "read_flow", "read_runnable"]

_FLEX = "flow.flex.yaml"


@dataclass(frozen=True)
class Runnable:
    """A flow: its folder, what its YAML says, and its inputs, `None` where only its code tells them."""

    path: Path
    folder: Path
    definition: Mapping[str, Any]
    inputs: Mapping[str, Any] | None
    is_dag: bool


def read_runnable(path: Path) -> Runnable:
    """Return the flow at a path: its folder, its YAML file, or a prompty.

    Raises:
        BadInput: there is none that can be read.
    """
    if path.suffix.lower() == ".prompty":
        front = _mapping(path, _front_matter(path))
        return Runnable(path, path.resolve().parent, front, front.get("inputs") or {}, is_dag=False)
    flex = path / _FLEX if path.is_dir() else path
    if flex.name == _FLEX and flex.is_file():
        definition = _mapping(flex, flex)
        return Runnable(path, flex.resolve().parent, definition, definition.get("inputs"), is_dag=False)
    dag = read_flow(path)
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return Runnable(path, folder, dag, dag.get("inputs") or {}, is_dag=True)


def _front_matter(path: Path) -> str:
    """Return what stands between the first two lines `---` of a prompty."""
    if not path.is_file():
        raise BadInput(f"There is no prompty at {str(path)!r}; name a file, or the folder of a flow.")
    parts = path.read_text(encoding="utf-8").split("\n---", 1)
    if not parts[0].startswith("---") or len(parts) < 2:
        raise BadInput(f"{path} is no prompty: it does not begin with settings between two lines `---`.")
    return parts[0][3:]


def _mapping(path: Path, source: Path | str) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} has no settings by name.")
    for key in ("inputs", "environment_variables"):
        if not isinstance(found.get(key) or {}, dict):
            raise BadInput(f"{path} has no names under {key!r}, only {found[key]!r}.")
    return found


def read_flow(flow: Path) -> Mapping[str, Any]:
    """Return the `flow.dag.yaml` of a flow's folder; raise `BadInput` if there is none that can be read."""
    path = flow / "flow.dag.yaml" if flow.is_dir() else flow
    if not path.is_file():
        raise BadInput(f"There is no flow at {str(flow)!r}: {path} does not exist. Name the folder of a flow.dag.yaml.")
    try:
        dag = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(dag, dict) or not isinstance(dag.get("nodes"), list):
        raise BadInput(f"{path} has no list of nodes; only DAG flows can be run here.")
    if unnamed := [node for node in dag["nodes"] if not isinstance(node, dict) or "name" not in node]:
        raise BadInput(f"{path} has a node without a name: {unnamed[0]!r}.")
    for key in ("inputs", "outputs", "environment", "environment_variables"):
        if not isinstance(dag.get(key) or {}, dict):
            raise BadInput(f"{path} has no names under {key!r}, only {dag[key]!r}.")
    return dag
