"""The settings of judges, which no worker reads that asks none."""

from __future__ import annotations

import json
import os
import re
from typing import ClassVar

from pydantic import Field, field_validator

from pf_mlflow.settings import Settings, Variables, without_password

__all__ = ["JudgeSettings", "read_judge_settings", "setting_variables"]


class JudgeSettings(Variables):
    """The settings of judges. None is needed: key and address come from promptflow's connection."""

    prefix: ClassVar[str] = "PF_MLFLOW_JUDGE_"

    timeout: float = Field(30.0, gt=0, le=600, description="Seconds in which a judge must have answered.")
    retries: int = Field(
        3,
        ge=0,
        le=10,
        description="How often a judge is asked again after 429, 5xx or a broken connection, as late as `Retry-After` "
        "says but within a minute.",
    )
    requests: int = Field(16, ge=1, le=256, description="Requests to judges at once, in each process.")
    proxy_url: str = Field(
        "",
        description="The whole address that judges are asked at in place of the connection's, as that of a gateway: "
        "`https://gateway.example.com/chat/completions`.",
    )
    headers: str = Field("{}", description="Further headers of each request to a judge, as a JSON object of texts.")
    cache: bool = Field(
        True, description="`false` asks again what was asked before; else the verdict is taken that was given then."
    )

    @field_validator("proxy_url")
    @classmethod
    def _a_whole_address_without_secret(cls, url: str) -> str:
        if url and not re.match(r"https?://[^/\s]+", url):
            raise ValueError("write a whole address, https://HOST/PATH")
        if url != without_password(url):
            raise ValueError("an address is logged; put what is secret in it into PF_MLFLOW_JUDGE_HEADERS")
        return url

    @field_validator("headers")
    @classmethod
    def _an_object_of_texts(cls, headers: str) -> str:
        try:
            parsed = json.loads(headers)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict) or not all(_is_header(name, value) for name, value in parsed.items()):
            raise ValueError('write a JSON object of texts, {"X-Team": "search"}')
        return headers

    def more_headers(self) -> dict[str, str]:
        """Return the further headers by name."""
        headers: dict[str, str] = json.loads(self.headers)
        return headers


def _is_header(name: str, value: object) -> bool:
    return re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) is not None and (
        isinstance(value, str) and value.isascii() and value.isprintable()
    )


def read_judge_settings() -> JudgeSettings:
    """Return the settings of judges; raise `BadInput` naming the first that cannot be used."""
    return JudgeSettings.read(os.environ)


def setting_variables() -> frozenset[str]:
    """Return the environment variables that are settings, those of judges too."""
    return frozenset(kind.variable(name) for kind in (Settings, JudgeSettings) for name in kind.model_fields)
