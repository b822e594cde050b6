"""All settings, read in one place: MLflow's own first, ours begin with `PF_MLFLOW_`."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import quote, urlsplit

from platformdirs import user_state_path
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pf_mlflow.errors import BadInput

__all__ = [
    "EXPERIMENT_ID",
    "Settings",
    "Variables",
    "absolute_store",
    "current_user",
    "flow_variables",
    "leave_foreign_folder",
    "read_settings",
    "settings_here",
    "store_address",
    "without_password",
    "working_folder",
]

_OURS = ("MLFLOW_", "PF_MLFLOW_")
"""How the names of settings begin."""

EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID="
"""How the name of an experiment begins of which only the id is known: MLflow's, which no worker asks."""
_NEARLY_HTTP = re.compile(r"https?(?!://)[:/]", re.I)
_PORTS = {"http": 80, "https": 443}

_LOGINS = (
    re.compile(r"(https?://)([^/@:\s]*:)?[^/?#\s]+@", re.I),
    re.compile(r"(https?://)([^/@:\s]*:)(?!\d{1,5}(?:[/?#\s]|$))[^@\s]+@", re.I),  # with a `/` in the password
    re.compile(r"(\b(?!sqlite|https?)[\w+]+://)([^/@:\s]*:)(?:[^?\s]*|[^@\s]*)@", re.I),
)
_QUERY_SECRET = re.compile(
    r"([?&;](?:[\w.-]*(?:passw(?:or)?d|passphrase|pwd|token|secret|signature)\w*"
    r"|(?:[\w-]*(?:api|access|account|auth|shared|subscription)[\w-]*)?key|sig)=)(?!\*\*\*)[^&\s]+",
    re.I,
)
_ODBC_SECRET = re.compile(
    r"((?:(?<!\w)|(?<=%3B))(?:PWD|Password|AccessToken)\s*(?:=|%3D))(?!\*\*\*)"
    r"(?:%7B.*?%7D|\{[^}]*\}|(?:[^&;\s%]|%(?!3B|26))+)",
    re.I,
)

_Kind = TypeVar("_Kind", bound="Variables")


class Variables(BaseModel):
    """Settings that are environment variables, each with a prefix unless it has a name of MLflow's."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    prefix: ClassVar[str]

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field."""
        return str(cls.model_fields[field].validation_alias or f"{cls.prefix}{field.upper()}")

    @classmethod
    def read(cls: type[_Kind], environment: Mapping[str, str]) -> _Kind:
        """Return what variables say, in any case, empty ones nothing.

        Raises:
            BadInput: naming the first that cannot be used.
        """
        try:
            return cls._validated(environment)
        except ValidationError as error:
            raise BadInput(next(iter(cls._faults(error).values()))) from error

    @classmethod
    def faults(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """Return why variables cannot be used, a sentence each, by variable."""
        try:
            cls._validated(environment)
        except ValidationError as error:
            return cls._faults(error)
        return {}

    @classmethod
    def _validated(cls: type[_Kind], environment: Mapping[str, str]) -> _Kind:
        given = {name.upper(): value for name, value in environment.items() if value}
        fields = {(field.validation_alias or name): cls.variable(name) for name, field in cls.model_fields.items()}
        values = {str(name): given[variable] for name, variable in fields.items() if variable in given}
        return cls.model_validate(values, context=_command_folder(environment))

    @classmethod
    def _faults(cls, error: ValidationError) -> dict[str, str]:
        faults = {}
        for one in error.errors():
            name = str(one["loc"][0])
            variable = cls.variable(name) if name in cls.model_fields else name
            given = "…" if name in ("headers", "proxy_url") else repr(one["input"])  # which may hold a secret
            faults[variable] = f"{variable}={given} cannot be used: {one['msg']}."
        return faults


class Settings(Variables):
    """What is logged, and where. The field descriptions are the table of docs/settings.md."""

    prefix: ClassVar[str] = "PF_MLFLOW_"
    _flow_variables: dict[str, str] = PrivateAttr(default_factory=dict)
    _command_folder: Path | None = PrivateAttr(None)

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
    experiment_id: str = Field(
        "",
        validation_alias="MLFLOW_EXPERIMENT_ID",
        description="Its id instead, of one that there is. `MLFLOW_EXPERIMENT_NAME` comes first.",
    )
    parent_run: str = Field(
        "",
        description="Id of a run of yours that batches are put below, in the experiment that they go to. "
        "`--parent-run` says it for one batch.",
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
    log_model: bool = Field(
        False,
        description="`true` makes each line's run an output of a logged model on a server too, at one request more a "
        "line: it keeps lines out of MLflow's page *Evaluation runs*. In a database they always are.",
    )
    prices: str = Field(
        "",
        description="A YAML file with your own prices of models, which come before those that MLflow brings.",
    )

    @field_validator("spool_dir")
    @classmethod
    def _whatever_folder_promptflow_is_in(cls, folder: Path, info: ValidationInfo) -> Path:
        return (info.context or Path.cwd()) / folder.expanduser()

    @field_validator("prices")
    @classmethod
    def _from_the_same_folder(cls, path: str, info: ValidationInfo) -> str:
        return str((info.context or Path.cwd()) / Path(path).expanduser())

    @field_validator("tracking_uri")
    @classmethod
    def _from_where_the_user_was(cls, uri: str, info: ValidationInfo) -> str:
        if _NEARLY_HTTP.match(uri):
            raise PydanticCustomError("address", "an address begins with http:// or https://")
        return absolute_store(uri, info.context or Path.cwd())

    @model_validator(mode="before")
    @classmethod
    def _by_id_if_by_no_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        id = values.get("MLFLOW_EXPERIMENT_ID")
        return {"MLFLOW_EXPERIMENT_NAME": f"{EXPERIMENT_ID}{id}", **values} if id else values

    def model_post_init(self, context: Any) -> None:
        """Take the folder that the command was typed in from the validation's context."""
        self._command_folder = context

    @property
    def command_folder(self) -> Path | None:
        """The folder that the command was typed in, if that is known: promptflow changes the working directory."""
        return self._command_folder

    @property
    def unwritable_folder(self) -> Path | None:
        """The folder that the command was typed in, if the default store would be there and cannot."""
        folder = self.command_folder
        if self.tracking_uri or folder is None or (folder.is_dir() and os.access(folder, os.W_OK)):
            return None
        return folder

    @classmethod
    def for_flow(cls, flow: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
        """Return the settings that hold when promptflow runs a flow from here: its own variables come first.

        Raises:
            BadInput: naming the first that cannot be used.
        """
        own = flow_variables(flow)
        settings = cls.read({**environment, **own})
        settings._flow_variables = own
        return settings

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which a child process has the same settings."""
        if not self.enabled:
            return self._flow_variables
        return {
            **self._flow_variables,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "PF_MLFLOW_SPOOL_DIR": str(self.spool_dir),
            "PF_MLFLOW_CONTENT": self.content,
            "PF_MLFLOW_PARENT_RUN": self.parent_run,
            "PF_MLFLOW_PRICES": self.prices,
            "PF_MLFLOW_LOG_MODEL": str(self.log_model).lower(),
        }

    def store_of(self, flow_dir: Path) -> str:
        """Return the tracking URI, by default that of an SQLite store beside the command, else beside the flow."""
        if self.tracking_uri:
            return self.tracking_uri
        folder = flow_dir if self.unwritable_folder else self.command_folder or flow_dir
        return f"sqlite:///{_quoted(folder.resolve())}/mlflow.db"


def _command_folder(environment: Mapping[str, str]) -> Path | None:
    folder = environment.get("PWD")
    return Path(folder) if folder else None


def read_settings() -> Settings:
    """Return the settings of this process; raise `BadInput` naming the first that cannot be used."""
    return Settings.read(os.environ)


def settings_here() -> Settings:
    """Return the settings of a process that is in the folder it was asked in, whatever its starter left in `PWD`.

    Raises:
        BadInput: naming the first that cannot be used; or the folder is gone.
    """
    return Settings.read({**os.environ, "PWD": working_folder()})


def working_folder() -> str:
    """Return the folder that this process is in, by the name that `PWD` has for it if it has one."""
    try:
        folder = os.getcwd()
    except FileNotFoundError as error:
        raise BadInput("The folder that this was typed in is not there any more; change to another.") from error
    named = os.environ.get("PWD", "")
    return named if os.path.isabs(named) and os.path.exists(named) and os.path.samefile(named, folder) else folder


def leave_foreign_folder(words: Sequence[str]) -> None:
    """Forget `PWD` if what the command line of `pf` names is not there: a program left its own to what it started.

    Only while `pf` starts is that to be seen: it changes its folder itself.
    """
    folder = os.environ.get("PWD")
    if not folder or not words or Path(words[0]).stem != "pf":
        return
    named = (Path(folder) / word for option, word in pairwise(words) if option in ("--flow", "--file", "-f"))
    if not all(path.is_file() or any(path.glob("flow.*.yaml")) for path in named):
        del os.environ["PWD"]


def flow_variables(flow: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that promptflow will set when it runs a flow from here, as far as they are settings."""
    own = {str(name): str(value) for name, value in (flow.get("environment_variables") or {}).items()}
    return {
        "PWD": working_folder(),  # a program that started us elsewhere may have left its own
        **{name: value for name, value in own.items() if name.startswith(_OURS) and not value.startswith("${")},
    }


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


def without_password(text: str) -> str:
    """Return a text without the passwords and tokens that URIs in it may carry."""
    for login in _LOGINS:
        text = login.sub(r"\1\2***@", text)
    return _QUERY_SECRET.sub(r"\1***", _ODBC_SECRET.sub(r"\1***", text))


def store_address(uri: str) -> str:
    """Return what a store's URI is without login, driver, default port and last slash, in which one store's differ."""
    shown = re.sub(r"^(\w+)(?:\+\w+)?://(?:[^/?#\s]*@)?", r"\1://", without_password(uri))
    parts = urlsplit(shown)
    try:
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # no number
        return shown
    if parts.scheme not in _PORTS:
        return shown
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def current_user() -> str:
    """Return the user's name as MLflow's own clients give it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return "unknown"
