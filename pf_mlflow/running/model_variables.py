"""Which model the environment's variables lead to: OpenAI's, a server like it, or a deployment on Azure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pf_mlflow.errors import BadInput
from pf_mlflow.settings import without_password

__all__ = ["NamedModel", "key_variable", "named_model"]

_API_VERSION = "2024-10-21"
_KEY, _AZURE_KEY = "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"
_BASE, _ENDPOINT = "OPENAI_API_BASE", "AZURE_OPENAI_ENDPOINT"
_TYPE, _VERSION = "OPENAI_API_TYPE", "OPENAI_API_VERSION"
_DEPLOYMENTS = ("OPENAI_DEPLOYMENT_NAME", "OPENAI_API_DEPLOYMENT_NAME")
"""Those of the `openai` package before version 1, which go with `OPENAI_API_KEY`."""
_AZURE_DEPLOYMENTS = ("AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_NAME", "AZURE_OPENAI_CHAT_DEPLOYMENT")
_AZURE_HOST = re.compile(r"\.azure\.(?:com|us|cn)$|\.azure-api\.net$", re.I)

Variables = Mapping[str, str]


@dataclass(frozen=True)
class NamedModel:
    """A model, where it is asked, and the key for it."""

    label: str
    """Its name for the user."""
    key: str = field(repr=False)
    address: str | None
    """`None` is OpenAI's own."""
    model: str | None
    """The model, on Azure the deployment; `None` is the one that the flow names."""
    azure_version: str | None = None
    """The version of Azure's interface, `None` elsewhere."""


def key_variable(variables: Variables) -> str | None:
    """Return the variable whose key is used, `None` without one."""
    by_endpoint = variables.get(_AZURE_KEY) and variables.get(_ENDPOINT) and not variables.get(_BASE)
    if variables.get(_AZURE_KEY) and (not variables.get(_KEY) or (by_endpoint and _means_azure(variables))):
        return _AZURE_KEY
    return _KEY if variables.get(_KEY) else None


def named_model(variables: Variables) -> NamedModel | None:
    """Return the model that the environment names, `None` if it names none.

    Raises:
        BadInput: variables for Azure of which one is missing, or that cannot be used.
    """
    kind, key = variables.get(_TYPE, "").lower(), key_variable(variables)
    if kind not in ("", "azure", "openai", "open_ai"):
        raise BadInput(f"{_TYPE}={variables[_TYPE]!r} cannot be used; set it to azure or openai, or unset it.")
    if key == _AZURE_KEY or _means_azure(variables):
        return _on_azure(variables, key)
    if key is None:
        return None
    address = variables.get("OPENAI_BASE_URL") or variables.get(_BASE)
    shown = without_password(address) if address else "api.openai.com"
    if address and not re.match(r"https?://.", address, re.I):
        raise BadInput(f"The model's address {shown!r} cannot be used: it begins with http:// or https://.")
    return NamedModel(f"{key} at {shown}", variables[key], address, variables.get("OPENAI_MODEL"))


def _means_azure(variables: Variables) -> bool:
    """Tell whether variables that stand beside `OPENAI_API_KEY` are those of a deployment on Azure."""
    kind = variables.get(_TYPE, "").lower()
    if kind:
        return kind == "azure"
    host = urlsplit(variables.get(_BASE, "")).hostname or ""
    own_version = variables.get(_VERSION) and variables.get(_KEY) and not variables.get(_AZURE_KEY)
    return bool(any(map(variables.get, _DEPLOYMENTS)) or own_version or _AZURE_HOST.search(host))


def _on_azure(variables: Variables, key: str | None) -> NamedModel:
    if key == _AZURE_KEY:
        bases, deployments = (_ENDPOINT, _BASE), (*_AZURE_DEPLOYMENTS, *_DEPLOYMENTS)
    else:
        bases, deployments = (_BASE, _ENDPOINT), (*_DEPLOYMENTS, *_AZURE_DEPLOYMENTS)
    present = next(name for name in (key, _TYPE, *_DEPLOYMENTS, _BASE, _VERSION) if name and variables.get(name))
    address = _needed(variables, present, bases, "https://NAME.openai.azure.com")
    deployment = _needed(variables, present, deployments, "your deployment's name")
    secret = _needed(variables, present, (key or _KEY,), "your key")
    label = f"{key}, deployment {deployment} at {without_password(address)}"
    return NamedModel(label, secret, address, deployment, variables.get(_VERSION) or _API_VERSION)


def _needed(variables: Variables, present: str, names: Sequence[str], example: str) -> str:
    """Return the first variable that is set, which the one that is present needs beside it."""
    for name in names:
        if value := variables.get(name):
            return value
    leads = f"{present} is set" if present != _TYPE else f"{_TYPE}={variables[_TYPE]} is set"
    raise BadInput(f"{leads}, which leads to Azure, but {names[0]} is not; set it to {example}.")
