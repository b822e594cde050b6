"""Checks of a flow: its three nodes, what they name, its copy of this package, and whether tracing is on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pf_mlflow.__version__ import __version__
from pf_mlflow.adoption.manifest import Manifest
from pf_mlflow.adoption.vendor import COPY, copied_version
from pf_mlflow.adoption.wiring import TRACING, find_in_flow, our_nodes, package_calls, traces
from pf_mlflow.doctor.check_result import ERROR, OK, WARNING, CheckResult
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.sources.promptflow.flow import flow_nodes, node_names, node_shapes
from pf_mlflow.sources.promptflow.flow_files import PACKAGE

__all__ = ["check_copy", "check_nodes", "check_tracing", "node_sources"]

_DOES = {
    "open_line": "shows lines as running",
    "record_nodes": "says what is recorded",
    "child_run_id": "gives the child run's id",
}
"""What the three nodes call, and what for."""
_SCORES = "checked_scores"
"""What a node of an evaluation flow calls, which needs no other."""


def node_sources(dag: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of the nodes that have source files of their own, each with its file."""
    for name, shape in node_shapes(dag):
        if path := (shape.get("source") or {}).get("path"):
            yield name, str(path)


def check_nodes(setup: Setup) -> Iterator[CheckResult]:
    """Tell whether the flow's nodes record its lines, and whether they name nodes that there are."""
    if setup.flow_dir is None or setup.dag is None:
        return
    files = [(node, path, find_in_flow(setup.dag, setup.flow_dir, path)) for node, path in node_sources(setup.dag)]
    missing = [f"{node} ({path})" for node, path, found in files if found is None]
    if missing:
        remedy = f"put it back; `{setup.init}` does so for the nodes of pf-mlflow"
        yield CheckResult(ERROR, f"the source of {', '.join(missing)} is not there", remedy)
    called = {node: package_calls(found) for node, _, found in files if found and found.suffix == ".py"}
    wrong = [*_roles(setup, called), *_wires(setup, called), *_named(setup, called)]
    yield from wrong
    if not (missing or wrong):
        yield CheckResult(OK, ", ".join(node for node, names in called.items() if names & {*_DOES, _SCORES}))


def _roles(setup: Setup, called: Mapping[str, set[str]]) -> Iterator[CheckResult]:
    if any(_SCORES in names for names in called.values()):
        return
    missing = [name for name in _DOES if not any(name in names for names in called.values())]
    if len(missing) == len(_DOES):
        yield CheckResult(
            WARNING,
            "no node of this flow calls pf_mlflow: `pf-mlflow run` takes it as it is, plain `pf` records nothing",
            f"`{setup.init}` adds the nodes for plain pf; without them `pf-mlflow sync BATCH` brings its batches in",
        )
    elif missing:
        lacks = ", ".join(f"{name}, which {_DOES[name]}" for name in missing)
        yield CheckResult(WARNING, f"no node calls {lacks}", f"`{setup.init}`")


def _wires(setup: Setup, called: Mapping[str, set[str]]) -> Iterator[CheckResult]:
    """Tell of nodes that do not get the handle that the first one gives."""
    openers = [node for node, names in called.items() if "open_line" in names]
    handles = {f"${{{node}.output}}" for node in openers}
    for node in setup.dag["nodes"] if setup.dag and openers else []:
        needs = called.get(node["name"], set()) & {"record_nodes", "child_run_id"}
        if needs and not handles & set(map(str, (node.get("inputs") or {}).values())):
            message = f"the node {node['name']} does not get the line from {openers[0]}, and does nothing"
            remedy = f"give it the input `line: ${{{openers[0]}.output}}` in {setup.yaml}"
            yield CheckResult(WARNING, message, remedy)


def _named(setup: Setup, called: Mapping[str, set[str]]) -> Iterator[CheckResult]:
    """Tell of names under `record_nodes` that no node has."""
    assert setup.flow_dir and setup.dag
    known = flow_nodes(setup.flow_dir)
    for node in setup.dag["nodes"]:
        if "record_nodes" not in called.get(node["name"], set()):
            continue
        for name in node_names((node.get("inputs") or {}).get("record_nodes")):
            if name not in known.all:
                meant = [*get_close_matches(name, known.all, 1), *known.llm, *known.all][0]
                message = f"record_nodes names {name!r}, but the flow's nodes are {', '.join(known.all)}"
                yield CheckResult(WARNING, message, f"write `{meant}` there instead, in {setup.yaml}")


def check_copy(setup: Setup) -> Iterator[CheckResult]:
    """Tell whether the flow carries a copy of this package, of the installed version; a cloud needs one."""
    if setup.flow_dir is None or setup.dag is None:
        return
    folder = find_in_flow(setup.dag, setup.flow_dir, "pf_mlflow/__init__.py")
    copy = folder.parent if folder else find_in_flow(setup.dag, setup.flow_dir, COPY)
    if copy is None:
        if our_nodes(setup.dag, setup.flow_dir):
            needs = f"`{setup.init} --vendor` for a cloud that sees nothing but the flow's folder"
            yield CheckResult(OK, f"none, and pf-mlflow is in no package index: {needs}")
        return
    version = copied_version(copy)
    if version == __version__:
        yield CheckResult(OK, f"{copy} is of the installed version, {__version__}")
        return
    message = (
        f"the flow's own copy of pf_mlflow is of version {version or 'unknown'}, the installed one is {__version__}"
    )
    manifest = Manifest.in_folder(setup.flow_dir)
    by_hand = f"put a copy of {PACKAGE} in the place of {copy}" if folder else f"`pf-mlflow init {copy.parent}`"
    yield CheckResult(WARNING, message, f"`{setup.init}`" if manifest and manifest.has_copy else by_hand)


def check_tracing(setup: Setup) -> Iterator[CheckResult]:
    """Tell whether promptflow traces this flow; what the flow says of it comes before what the shell says."""
    if setup.flow_dir is None:
        return
    if not traces({"environment_variables": {**os.environ, **setup.environment}}):
        message = "tracing is off: `pf-mlflow run` switches it on, runs of plain `pf` lack tokens and nodes' values"
        remedy = f'write `{TRACING}: "false"` under environment_variables in {setup.yaml}'
        yield CheckResult(WARNING, message, remedy if setup.yaml else f"`export {TRACING}=false`")
    else:
        by_flow = TRACING in setup.environment
        yield CheckResult(OK, "on, by the flow" if by_flow else f"on, by {TRACING} in the environment")
