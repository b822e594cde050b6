"""Whether the models that a flow names are there, asked of their servers while promptflow makes ready."""

from __future__ import annotations

import contextvars
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.running.model_choice import Connections
from pf_mlflow.settings import without_password
from pf_mlflow.settings.environment import proxied_by
from pf_mlflow.sources.promptflow.flow import llm_calls

log = logging.getLogger(__name__)

__all__ = ["AskedModel", "check_model", "is_named", "model_check"]

_PATIENCE = 3.0
"""Seconds that a server has to tell its models; one that is slower is asked by the lines."""
_OPENAI = "https://api.openai.com/v1"
_UNAUTHORIZED = 401
_NAMED = 8
"""How many models of a server are named at the most."""


@dataclass(frozen=True)
class AskedModel:
    """A model that nodes ask, at a server that speaks OpenAI's protocol."""

    model: str
    address: str
    key: str = field(repr=False)


def model_check(
    client: Any, dag: Mapping[str, Any], connections: Connections, variant: str | None
) -> Callable[[], None]:
    """Begin to ask for a DAG flow's models, and return what waits for the answers and raises `BadInput`."""
    asked = set(_asked_models(client, dag, connections, variant))
    if not asked:
        return lambda: None
    pool = ThreadPoolExecutor(len(asked), "pf-mlflow-models")
    answers = [pool.submit(contextvars.copy_context().run, check_model, one) for one in asked]
    pool.shutdown(wait=False)

    def wait() -> None:
        for answer in answers:
            answer.result()

    return wait


def _asked_models(
    client: Any, dag: Mapping[str, Any], connections: Connections, variant: str | None
) -> Iterator[AskedModel]:
    from promptflow.entities import OpenAIConnection

    for node, connection, model in llm_calls(dag, variant):
        instead = connections.get(node, {})
        model = instead.get("model") or model
        try:
            found = client.connections.get(name=instead.get("connection") or connection, with_secrets=True)
        except Exception:  # promptflow says so, before the first line
            log.debug("no connection for the node %s", node, exc_info=True)
            continue
        if model and not model.startswith("${") and isinstance(found, OpenAIConnection):
            yield AskedModel(model, (found.base_url or _OPENAI).rstrip("/"), found.api_key or "")


def check_model(asked: AskedModel) -> None:
    """Raise `BadInput` if a server cannot be reached, or tells its models and has none of that name."""
    import httpx

    shown = without_password(asked.address)
    try:
        headers = {"Authorization": f"Bearer {asked.key}"}
        answer = httpx.get(f"{asked.address}/models", headers=headers, timeout=_PATIENCE)
        told = answer.json()
        _check_key(shown, answer.status_code, told)
        names = [str(one["id"]) for one in told["data"]] if answer.status_code == httpx.codes.OK else []
    except (httpx.ConnectError, httpx.ProxyError) as error:
        why = re.sub(r"^\[[^]]*\] | \(_ssl.c:\d+\)$", "", without_password(str(error)))
        raise BadInput(
            f"The language model at {shown} cannot be reached ({why}); {_remedy(asked.address, why)}."
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):  # it does not tell: the lines ask it
        log.debug("%s does not tell its models", shown, exc_info=True)
        return
    if names and not any(is_named(asked.model, name) for name in names):
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise BadInput(
            f"There is no model {asked.model!r} at {shown}, which has {', '.join(sorted(names)[:_NAMED])}{more}; name "
            "one of them in the flow, with --connections NODE.model=NAME, or in OPENAI_MODEL."
        )


def _check_key(address: str, status: int, told: Any) -> None:
    """Raise `BadInput` if a server says that the key is none; what else it refuses here, it may let lines do."""
    code = told["error"]["code"] if status == _UNAUTHORIZED and isinstance(told["error"], dict) else ""
    if code == "invalid_api_key":
        raise BadInput(
            f"The language model at {address} answered 401, {code}; look at the key in the flow's connection, or in "
            "OPENAI_API_KEY."
        )


def _remedy(address: str, why: str) -> str:
    if "certificate verify failed" in why:
        return "let SSL_CERT_FILE name a file with its CA"
    if proxy := proxied_by(address):
        return f"it is asked through the proxy of {proxy}: mend that, or let NO_PROXY name the host"
    return "start its server, or correct its address"


def is_named(model: str, name: str) -> bool:
    """Tell whether a server's name means a model: with Ollama's tag left out, or by a gateway's wildcard."""
    name = name.removeprefix("models/")  # so Gemini's address for OpenAI's clients
    return name == model or name.partition(":")[0] == model.partition(":")[0] or name.endswith("*")
