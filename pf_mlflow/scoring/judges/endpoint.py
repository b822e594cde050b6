"""Where a judge is asked: at the address, with the key and by the model of a promptflow connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from pf_mlflow.errors import BadInput
from pf_mlflow.records.offline_model import OFFLINE_KEY, OFFLINE_MODEL
from pf_mlflow.settings import without_password
from pf_mlflow.settings.judges import JudgeSettings

__all__ = ["SKIPPED", "Endpoint", "endpoint_of", "is_offline"]

SKIPPED = "The built-in offline model is no judge: no judge was asked; name a connection to a real model."
_OPENAI = "https://api.openai.com/v1"
_LEAST_SECRET = 6
"""Characters from which on a header's value is masked in what the server says."""


@dataclass(frozen=True)
class Endpoint:
    """A place that answers chat completions."""

    url: str
    model: str
    """The model, or the deployment on Azure."""
    names_model: bool
    """Whether the request's body names the model, which an Azure deployment's address does."""
    headers: Callable[[], dict[str, str]] = field(repr=False, compare=False)
    """Returns the headers of a request, a token of Entra ID that has run out renewed."""
    setting: str = field(default="{}", repr=False)
    """The setting of further headers: a gateway may choose the model by them."""

    def masked(self, text: str) -> str:
        """Return what a server said without the keys that it was sent."""
        try:
            values = self.headers().values()
        except Exception:  # noqa: BLE001 - there is no token now, so none was sent
            return text
        for value in sorted(values, key=len, reverse=True):
            for secret in (value, value.removeprefix("Bearer ")):
                if len(secret) >= _LEAST_SECRET:
                    text = text.replace(secret, "**scrubbed**")
        return text


def is_offline(connection: Any, model: str) -> bool:
    """Say whether a connection leads to the built-in offline model, which is no judge."""
    return model == OFFLINE_MODEL or getattr(connection, "api_key", None) == OFFLINE_KEY


def endpoint_of(connection: Any, model: str, settings: JudgeSettings) -> Endpoint:
    """Return where the judges of a connection are asked.

    Args:
        connection: promptflow's OpenAI or Azure OpenAI connection, with its secrets.
        model: The judge's model; on Azure the deployment.
        settings: A proxy's address, which takes the place of the connection's, and further headers.

    Raises:
        BadInput: the connection is missing, of another kind, or without an address.
    """
    kind = type(connection).__name__
    if connection is None:
        raise BadInput(
            f"The judge model {model!r} has no connection; name one: `pf-mlflow evaluate --judge-connection NAME`, "
            "or `pf run create --connections score.connection=NAME`."
        )
    if kind not in ("OpenAIConnection", "AzureOpenAIConnection"):
        raise BadInput(f"A judge is asked through an OpenAI or an Azure OpenAI connection, not {kind}.")
    is_azure = kind == "AzureOpenAIConnection"
    url = settings.proxy_url or (_azure_url if is_azure else _openai_url)(connection, model)
    own, further = _azure_headers if is_azure else _openai_headers, settings.more_headers()
    names_model = not is_azure or bool(settings.proxy_url)
    return Endpoint(url, model, names_model, lambda: own(connection) | further, settings.headers)


def _openai_url(connection: Any, model: str) -> str:
    return f"{_base(connection, connection.base_url or _OPENAI)}/chat/completions"


def _azure_url(connection: Any, deployment: str) -> str:
    base, name = _base(connection, connection.api_base or ""), quote(deployment, safe="")
    return f"{base}/openai/deployments/{name}/chat/completions?api-version={connection.api_version}"


def _base(connection: Any, address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        shown = without_password(address)
        raise BadInput(f"The connection {connection.name!r} has the address {shown!r}; write https://HOST/PATH.")
    return address.rstrip("/")


def _openai_headers(connection: Any) -> dict[str, str]:
    organization = {"OpenAI-Organization": connection.organization} if connection.organization else {}
    return {"Authorization": f"Bearer {connection.api_key}", **organization}


def _azure_headers(connection: Any) -> dict[str, str]:
    if connection.auth_mode == "key":
        return {"api-key": connection.api_key}
    return {"Authorization": f"Bearer {connection.get_token()}"}
