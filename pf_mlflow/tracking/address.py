"""Tracking URIs at which no store can be, and what was perhaps meant. Needs no mlflow."""

from __future__ import annotations

import os
import re
import shlex
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from pf_mlflow.errors import TrackingRefused
from pf_mlflow.settings import without_password

__all__ = ["check_address", "remedy_of"]

_SET = "MLFLOW_TRACKING_URI"
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "azureml")


def check_address(tracking_uri: str) -> None:
    """Raise `TrackingRefused` if no server can be at an address; what only MLflow knows, it says itself."""
    shown = without_password(tracking_uri)
    try:
        parts = urlsplit(tracking_uri)
        no_host = parts.scheme in ("http", "https") and not (parts.hostname and (parts.port or True))
    except ValueError as error:
        raise TrackingRefused(f"MLflow cannot be at {shown}: {error} — mend {_SET}.") from error
    if no_host:
        raise TrackingRefused(f"MLflow cannot be at {shown}, which names no host — mend {_SET}.")


def remedy_of(tracking_uri: str) -> str:
    """Return what to do about an address that MLflow does not take."""
    shown = without_password(tracking_uri)
    if shown.startswith("databricks"):
        return "`pip install databricks-sdk`, and set DATABRICKS_HOST and DATABRICKS_TOKEN, or name a profile"
    if shown.startswith("azureml"):
        return "`pip install azureml-mlflow`"
    scheme, is_address, rest = shown.partition("://")
    if is_address and (meant := get_close_matches(scheme, _SCHEMES, 1)):
        return f"`export {_SET}={shlex.quote(f'{meant[0]}://{rest}')}`"
    is_server = re.fullmatch(r"[\w.-]+:\d+(/.*)?", shown)
    better = (
        f"http://{shown}"
        if is_server
        else f"sqlite:///{Path(os.environ.get('PWD') or Path.cwd()).as_posix()}/mlflow.db"
    )
    is_folder = not is_server and urlsplit(shown).scheme in ("", "file")
    kept = "; `mlflow migrate-filestore` brings the runs of a folder there" if is_folder else ""
    return f"`export {_SET}={shlex.quote(better)}`{kept}"
