"""Checks of connections: whether promptflow can keep them on this machine, and has those that a flow names."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pf_mlflow.adoption.wiring import find_in_flow
from pf_mlflow.doctor.check_result import ERROR, OK, WARNING, CheckResult
from pf_mlflow.doctor.probe import Probe
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.running.model_choice import DEFAULT_CONNECTION, stand_in
from pf_mlflow.sources.promptflow.flow import node_shapes
from pf_mlflow.sources.promptflow.private_names import (
    KEYRING_ENTRY,
    other_connection_provider,
    promptflow_home,
    stored_connections,
)

__all__ = ["Kept", "answer", "check_connections", "check_keyring", "kept_of", "needs_of"]

_KINDS = {
    "open_ai": r"api_key: <user-input>\n",
    "azure_open_ai": r"api_base: https://NAME.openai.azure.com\napi_key: <user-input>\n",
}
"""Types of connections that a flow's LLM nodes take, and what a file of one needs beside name and type."""
_CONCEPTS = "https://microsoft.github.io/promptflow/concepts/concept-connections.html"


@dataclass(frozen=True)
class Kept:
    """What promptflow can keep on this machine, and has."""

    backend: str
    trouble: str = ""
    """Why connections cannot be kept."""
    config: str = ""
    """The file that chooses the keyring's backend, if there is one."""
    readable: Mapping[str, bool] | None = None
    """Whether the secrets of a connection can be read, by name."""


def answer(home: str) -> str:
    """Ask the keyring and promptflow's database, and return a `Kept` as JSON; meant for a process of its own."""
    facts: dict[str, Any] = {"backend": "none"}
    try:
        key = _keyring_key(facts)
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own, and they are what is asked for
        return json.dumps(facts | {"trouble": f"{type(error).__name__}: {error}"})
    with suppress(sqlite3.Error):  # the check of connections says so
        facts["readable"] = {name: _can_read(key, kept) for name, kept in stored_connections(Path(home)).items()}
    return json.dumps(facts)


def _keyring_key(facts: dict[str, Any]) -> str | None:
    """Return the key of all connections' secrets, `None` while there is none; note which keyring was asked."""
    import keyring
    from keyring.util.platform_ import config_root

    config = Path(config_root()) / "keyringrc.cfg"
    facts["config"] = str(config) if config.is_file() else ""
    backend = keyring.get_keyring()
    facts["backend"] = f"{type(backend).__module__}.{type(backend).__name__}"
    if facts["backend"].startswith("keyring.backends.null"):
        raise ValueError("it keeps nothing")
    return keyring.get_password(*KEYRING_ENTRY)


def kept_of(probe: Probe, patience: float) -> Kept:
    """Wait for the answer of a process that was asked for a `Kept`."""
    try:
        return Kept(**probe.answer(patience))
    except (TimeoutError, RuntimeError) as error:
        return Kept("unknown", str(error))


def _can_read(key: str | None, secrets: list[str]) -> bool:
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return not secrets or (key is not None and all(Fernet(key).decrypt(secret) for secret in secrets))
    except (InvalidToken, ValueError):
        return False


def check_keyring(kept: Kept) -> Iterator[CheckResult]:
    """Tell whether promptflow can keep connections, those too that `pf-mlflow run` makes for a key."""
    if not kept.trouble:
        yield CheckResult(OK, kept.backend)
        return
    message = f"promptflow cannot keep connections, keyring backend {kept.backend}: {kept.trouble.splitlines()[0]}"
    if os.environ.get("PYTHON_KEYRING_BACKEND"):
        remedy = "`unset PYTHON_KEYRING_BACKEND`"
    elif kept.config:
        remedy = f"mend or remove {kept.config}, which chooses it"
    else:
        remedy = "`pip install keyrings.alt`"
    yield CheckResult(ERROR, message, remedy)


@dataclass(frozen=True)
class Need:
    """A connection that a flow names."""

    name: str
    kind: str
    """promptflow's type of connection, `""` if the flow does not tell."""
    node: str


def needs_of(dag: Mapping[str, Any], flow_dir: Path) -> list[Need]:
    """Return the connections that a flow's nodes and environment variables name, each once."""
    found: dict[str, Need] = {}
    for node, shape in node_shapes(dag):
        for name, kind in _named_by(shape, dag, flow_dir):
            found.setdefault(name, Need(name, kind, f"node {node}"))
    for variable, value in (dag.get("environment_variables") or {}).items():
        if reference := re.fullmatch(r"\$\{([^.}]+)\.[^}]+\}", str(value)):
            found.setdefault(reference[1], Need(reference[1], "", f"variable {variable}"))
    return list(found.values())


def _named_by(node: Mapping[str, Any], dag: Mapping[str, Any], flow_dir: Path) -> Iterator[tuple[str, str]]:
    inputs, source = node.get("inputs") or {}, node.get("source") or {}
    if node.get("connection"):
        is_azure = "azure" in str(node.get("provider")).lower()
        yield str(node["connection"]), "azure_open_ai" if is_azure else "open_ai"
    kinds = {"connection": ""} if source.get("type") == "package" else {}
    if source.get("type") == "code" and str(source.get("path")).endswith(".py"):
        path = find_in_flow(dag, flow_dir, str(source["path"]))
        kinds = _connection_arguments(path) if path else {}
    for name, kind in kinds.items():
        if isinstance(value := inputs.get(name), str) and value and not value.startswith("${"):
            yield value, kind


def _connection_arguments(source: Path) -> dict[str, str]:
    """Return the arguments of a source file's functions that are connections, and the type of each."""
    kinds = {}
    for part in ast.walk(ast.parse(source.read_text(encoding="utf-8"), str(source))):
        if isinstance(part, ast.arg) and part.annotation:
            if types := re.findall(r"(\w+)Connection\b", ast.unparse(part.annotation)):
                words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", types[0])
                kinds[part.arg] = "_".join(words).lower()
    return kinds


def check_connections(setup: Setup, kept: Kept) -> Iterator[CheckResult]:
    """Tell which connections of the flow promptflow lacks, and what stands in for them under `pf-mlflow run`."""
    if setup.flow_dir is None or setup.dag is None:
        return
    needs = needs_of(setup.dag, setup.flow_dir)
    if provider := other_connection_provider(promptflow_home()):
        yield CheckResult(OK, f"they come from {provider}, which was not asked")
        return
    readable = (
        kept.readable if kept.readable is not None else dict.fromkeys(stored_connections(promptflow_home()), True)
    )
    wrong = [need for need in needs if not readable.get(need.name)]
    for need in wrong:
        yield _lacking(need, need.name in readable)
    if not wrong:
        yield CheckResult(OK, ", ".join(need.name for need in needs) or "the flow names none")


def _lacking(need: Need, is_kept: bool) -> CheckResult:
    why = "was kept by another keyring and cannot be read" if is_kept else "is not there"
    message = f"the connection {need.name!r} of {need.node} {why}"
    stands_in = stand_in() if need.name == DEFAULT_CONNECTION and not is_kept else None
    if stands_in:
        message += f"; `pf-mlflow run` takes {stands_in} instead, plain `pf` stops"
    return CheckResult(WARNING if stands_in else ERROR, message, _creation(need, is_kept))


def _creation(need: Need, is_kept: bool) -> str:
    """Return how to make a connection; one that cannot be read is in the way of `pf connection create`."""
    first = f"pf connection delete --name {shlex.quote(need.name)} --yes && " if is_kept else ""
    if need.kind and need.kind not in _KINDS:
        return f"make one of type {need.kind} with `{first}pf connection create --file FILE`; see {_CONCEPTS}"
    file = shlex.quote(re.sub(r"\W+", "_", need.name) + ".yaml")
    kind = need.kind or "open_ai"
    content = shlex.quote(rf"name: {need.name}\ntype: {kind}\n{_KINDS[kind]}")
    return f"`{first}printf {content} > {file} && pf connection create --file {file}`, which asks for the key"
