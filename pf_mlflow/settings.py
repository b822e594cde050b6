"""All settings, read in one place: MLflow's own first, ours begin with `PF_MLFLOW_`."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from platformdirs import user_state_path
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pf_mlflow.errors import BadInput

__all__ = [
    "JudgeSettings",
    "Settings",
    "absolute_store",
    "current_user",
    "default_tracking_uri",
    "faulty_settings",
    "read_judge_settings",
    "read_settings",
    "setting_variables",
    "take_over_environment",
    "without_password",
]


_Kind = TypeVar("_Kind", bound=BaseSettings)


class Settings(BaseSettings):
    """The settings of this process. The field descriptions are the README's table."""

    model_config = SettingsConfigDict(env_prefix="PF_MLFLOW_", extra="ignore", env_ignore_empty=True)

    tracking_uri: str = Field(
        "",
        validation_alias="MLFLOW_TRACKING_URI",
        description="Where the runs go. Default: `mlflow.db` in the folder where you ran the command.",
    )
    experiment: str = Field(
        "",
        validation_alias="MLFLOW_EXPERIMENT_NAME",
        description="The experiment of the runs. Default: the name of the flow's folder.",
    )
    enabled: bool = Field(True, description="`false` switches everything off: the nodes only hand values on.")
    content: Literal["all", "none"] = Field(
        "all",
        description="`none` keeps all prompt, input and answer text out of MLflow and out of the spool: "
        "only sizes, tokens, times and status are logged.",
    )
    log_single_runs: bool = Field(False, description="`true` logs `pf flow test` and endpoint calls too, one run each.")
    spool_dir: Path = Field(
        default_factory=lambda: user_state_path("pf-mlflow"),
        description="Where records wait until MLflow has them. Default: the user's state folder.",
    )
    give_up_after: float = Field(
        600.0,
        ge=0,
        description="Seconds after the end of a batch for which an unreachable MLflow is tried again; "
        "what is left stays in the spool.",
    )

    spool_limit: int = Field(
        1024,
        ge=1,
        description="Size of the spool in MiB. At the limit further records are not kept but taken from promptflow's "
        "folder when the batch ends, which is told.",
    )

    @field_validator("spool_dir")
    @classmethod
    def _whatever_folder_promptflow_is_in(cls, folder: Path) -> Path:
        return (_started_in() or Path.cwd()) / folder.expanduser()

    @field_validator("tracking_uri")
    @classmethod
    def _from_where_the_user_was(cls, uri: str) -> str:
        return absolute_store(uri, _started_in() or Path.cwd())


class JudgeSettings(BaseSettings):
    """The settings of judges. None is needed: key and address come from promptflow's connection."""

    model_config = SettingsConfigDict(env_prefix="PF_MLFLOW_JUDGE_", extra="ignore", env_ignore_empty=True, frozen=True)

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
            told = json.loads(headers)
        except ValueError:
            told = None
        if not isinstance(told, dict) or not all(_is_header(name, value) for name, value in told.items()):
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


def _started_in() -> Path | None:
    folder = os.environ.get("PWD")
    return Path(folder) if folder else None


def read_settings() -> Settings:
    """Return the settings of this process; raise `BadInput` naming the first that cannot be used."""
    return _read(Settings)


def read_judge_settings() -> JudgeSettings:
    """Return the settings of judges; raise `BadInput` naming the first that cannot be used."""
    return _read(JudgeSettings)


def setting_variables() -> frozenset[str]:
    """Return the environment variables that are settings, those of judges too."""
    fields = [(kind, *item) for kind in (Settings, JudgeSettings) for item in kind.model_fields.items()]
    return frozenset(str(field.validation_alias or _variable(kind, name)) for kind, name, field in fields)


def faulty_settings() -> dict[str, str]:
    """Return why settings of this process cannot be used, a sentence each, by variable."""
    kind: type[BaseSettings] = Settings
    try:
        kind()
    except ValidationError as error:
        return _faults(kind, error)
    return {}


def _read(kind: type[_Kind]) -> _Kind:
    try:
        return kind()
    except ValidationError as error:
        raise BadInput(next(iter(_faults(kind, error).values()))) from error


def _faults(kind: type[BaseSettings], error: ValidationError) -> dict[str, str]:
    faults = {}
    for one in error.errors():
        name = str(one["loc"][0])
        variable = _variable(kind, name) if name in kind.model_fields else name
        given = "…" if name in ("headers", "proxy_url") else repr(one["input"])  # which may hold a secret
        faults[variable] = f"{variable}={given} cannot be used: {one['msg']}."
    return faults


def _variable(kind: type[BaseSettings], field: str) -> str:
    return f"{kind.model_config.get('env_prefix', '')}{field.upper()}"


def take_over_environment(flow: Mapping[str, Any]) -> None:
    """Let a flow's own settings hold for this process too, as they will when promptflow runs it."""
    os.environ["PWD"] = os.getcwd()  # a program that started us elsewhere may have left its own
    for name, value in (flow.get("environment_variables") or {}).items():
        if str(name).startswith(("MLFLOW_", "PF_MLFLOW_")) and not str(value).startswith("${"):
            os.environ[name] = str(value)


def default_tracking_uri(flow_dir: Path) -> str:
    """Return the SQLite store of a user who named none: beside the command, else beside the flow.

    promptflow changes the working directory; `$PWD` still tells where the command was typed.
    """
    started_in = _started_in()
    folder = started_in if started_in and _writable(started_in) else flow_dir
    return f"sqlite:///{_quoted(folder.resolve())}/mlflow.db"


def absolute_store(uri: str, folder: Path) -> str:
    """Return a tracking URI with an SQLite path that is relative taken from a folder."""
    scheme, three, path = uri.partition(":///")
    if not scheme.startswith("sqlite") or not three or not path or path.startswith(("/", ":memory:")):
        return uri
    if re.match(r"[A-Za-z]:[\\/]", path):
        return uri
    return f"{scheme}:///{_quoted(folder)}/{path}"


def _quoted(folder: Path) -> str:
    """Return a folder as SQLAlchemy takes it in a URI: `?` would begin a query, `%20` be a space."""
    return re.sub(r"\?|%(?=[0-9A-Fa-f]{2})", lambda mark: quote(mark[0]), folder.as_posix().rstrip("/"))


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def without_password(uri: str) -> str:
    """Return a text without the passwords and tokens that URIs in it may carry."""
    uri = re.sub(r"(https?://)([^/@:\s]*:)?[^/@\s]+@", r"\1\2***@", uri)
    uri = re.sub(r"(\b(?!sqlite|https?)[\w+]+://[^/@:\s]*:)[^@\s]+@", r"\1***@", uri)
    return re.sub(r"([?&](?:password|passwd|token|key|sig|secret)=)[^&\s]+", r"\1***", uri, flags=re.I)


def current_user() -> str:
    """Return the user's name as MLflow's own clients tell it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return "unknown"
