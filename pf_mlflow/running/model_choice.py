"""Which language model a batch talks to, when its flow's connection is not one that the user has in promptflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from pf_mlflow.records.offline_model import OFFLINE_KEY, OFFLINE_MODEL
from pf_mlflow.running.model_variables import NamedModel, key_variable, named_model
from pf_mlflow.running.offline_model import offline_model
from pf_mlflow.sources.promptflow.flow import shapes_of

__all__ = [
    "DEFAULT_CONNECTION",
    "ConnectionUse",
    "Connections",
    "ModelChoice",
    "choose_model",
    "connection_uses",
    "overrides",
    "stale_connections",
    "stand_in",
    "with_connections",
]

Connections = Mapping[str, Mapping[str, str]]
"""promptflow's `connections` argument: by node, the connection, model and deployment to use instead."""

DEFAULT_CONNECTION = "open_ai_connection"
_TEMPORARY = re.compile(r"pf_mlflow_(\d+)")


@dataclass(frozen=True)
class ModelChoice:
    """A model, and what gives it to the flow's nodes."""

    label: str
    """Its name for the user; `""` if none is asked."""
    overrides: Connections = field(default_factory=dict)
    offline: bool = False
    """Whether it is the built-in one, which is no real model."""


@contextmanager
def choose_model(client: Any, dag: Mapping[str, Any], chosen: Connections) -> Iterator[ModelChoice]:
    """Choose the model for a flow and hold what it needs while the batch runs.

    In this order: the user's promptflow connection `open_ai_connection`; what the environment's variables name; the
    built-in offline model. Nodes for which the user has `chosen` a connection keep that. A key from the
    environment stands in a connection of its own for as long as the batch runs; those of the user are never touched.

    Raises:
        BadInput: variables of Azure OpenAI of which one is missing.
    """
    uses = [
        use for use in connection_uses(dag, DEFAULT_CONNECTION) if not set(use.inputs) & chosen.get(use.node, {}).keys()
    ]
    have = {connection.name for connection in client.connections.list(all_results=True)}
    for name in stale_connections(have):
        client.connections.delete(name)
    if not uses or DEFAULT_CONNECTION in have:
        yield ModelChoice(
            f"connection {DEFAULT_CONNECTION}" if uses else "as the flow names it" if _may_ask(dag) else ""
        )
    elif named := named_model(os.environ):
        with _connection(client, _connection_to(named)) as name:
            yield ModelChoice(named.label, overrides(uses, name, named.model))
    else:
        with offline_model() as base_url, _connection(client, _openai(OFFLINE_KEY, base_url)) as name:
            yield ModelChoice(
                "the built-in offline model, which is NO real language model",
                overrides(uses, name, OFFLINE_MODEL),
                True,
            )


def stand_in() -> str:
    """Return what is asked where the default connection is missing: the variable of a key, or the offline model."""
    return key_variable(os.environ) or "the offline model"


def _may_ask(dag: Mapping[str, Any]) -> bool:
    """Tell whether a flow may ask a model: not one whose nodes are Python without a connection."""
    nodes = dag.get("nodes") or [{"type": ""}]
    return any(node.get("type") != "python" or _names_connection(node) for node in nodes)


def _names_connection(node: Mapping[str, Any]) -> bool:
    """Tell whether a Python node is given a connection; an empty one is none."""
    inputs = {key: value for key, value in (node.get("inputs") or {}).items() if value != ""}
    return "connection" in json.dumps({**node, "inputs": inputs}, default=str)


@dataclass(frozen=True)
class ConnectionUse:
    """How a node uses a connection."""

    node: str
    inputs: tuple[str, ...]
    """The names under which it takes it."""
    is_llm: bool
    """Whether the node is of type `llm`, which also takes a model and a deployment."""


def connection_uses(dag: Mapping[str, Any], connection: str) -> list[ConnectionUse]:
    """Return the nodes of a flow that use a connection: LLM nodes as their own, others as an input."""
    uses = []
    for node in dag.get("nodes") or []:
        shapes = shapes_of(dag, node)
        inputs = (key for shape in shapes for key, value in (shape.get("inputs") or {}).items() if value == connection)
        if any(shape.get("connection") == connection for shape in shapes):
            uses.append(ConnectionUse(node["name"], ("connection",), True))
        elif names := tuple(dict.fromkeys(inputs)):
            uses.append(ConnectionUse(node["name"], names, False))
    return uses


def with_connections(dag: Mapping[str, Any], connections: Connections) -> Mapping[str, Any]:
    """Return a flow in which inputs of nodes are given connections."""
    nodes = [
        {**node, "inputs": {**(node.get("inputs") or {}), **connections[node["name"]]}}
        if node["name"] in connections
        else node
        for node in dag.get("nodes") or []
    ]
    return {**dag, "nodes": nodes} if connections else dag


def overrides(uses: list[ConnectionUse], connection: str, model: str | None) -> dict[str, dict[str, str]]:
    """Return promptflow's `connections` argument that gives nodes another connection and LLM nodes another model."""
    models = {"model": model, "deployment_name": model} if model else {}
    return {use.node: dict.fromkeys(use.inputs, connection) | (models if use.is_llm else {}) for use in uses}


def _openai(api_key: str, base_url: str | None) -> Any:
    from promptflow.entities import OpenAIConnection

    return OpenAIConnection(name=_own_name(), api_key=api_key, base_url=base_url)


def _connection_to(named: NamedModel) -> Any:
    if named.azure_version is None:
        return _openai(named.key, named.address)
    from promptflow.entities import AzureOpenAIConnection

    return AzureOpenAIConnection(
        name=_own_name(), api_key=named.key, api_base=named.address or "", api_version=named.azure_version
    )


def _own_name() -> str:
    return f"pf_mlflow_{os.getpid()}"


@contextmanager
def _connection(client: Any, connection: Any) -> Iterator[str]:
    client.connections.create_or_update(connection)
    try:
        yield connection.name
    finally:
        client.connections.delete(connection.name)


def stale_connections(names: Iterable[str]) -> list[str]:
    """Return which of promptflow's connections are those of commands that were killed before they could remove them."""
    found = ((name, _TEMPORARY.fullmatch(name)) for name in names)
    return [name for name, match in found if match and not psutil.pid_exists(int(match[1]))]
