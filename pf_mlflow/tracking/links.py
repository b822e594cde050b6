"""Addresses of the pages that show a store and the runs in it."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

__all__ = [
    "ANSWERS_VIEW",
    "BATCHES_VIEW",
    "CHARTS_VIEW",
    "LINES_VIEW",
    "batches_link",
    "is_database",
    "run_link",
    "store_link",
]

BATCHES_VIEW, LINES_VIEW = "pf_mlflow_batches", "pf_mlflow_lines"
CHARTS_VIEW, ANSWERS_VIEW = "pf_mlflow_charts", "pf_mlflow_answers"
"""Keys of an experiment's shared views, as an address names them: `…/runs?viewStateShareKey=KEY`."""

_WORKSPACE = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/.*?/workspaces/([^/?]+)", re.IGNORECASE)
_STUDIOS = {".ml.azure.us": "ml.azure.us", ".ml.azure.cn": "studio.ml.azure.cn"}
"""Azure ML's pages in other clouds than the public one, by the end of the API's host."""


def is_database(tracking_uri: str) -> bool:
    """Tell whether a store has no pages of its own: they need a server."""
    return not tracking_uri.startswith(("http:", "https:", "databricks", "azureml:"))


def store_link(tracking_uri: str) -> str | None:
    """Return the address of a store's own pages, `None` if it has none or they are not known."""
    if tracking_uri.startswith("databricks"):
        host = _databricks_host(tracking_uri)
        return f"{host}/ml/experiments" if host else None
    if tracking_uri.startswith("azureml:"):
        return _studio_link(tracking_uri, "")
    return None if is_database(tracking_uri) else f"{_without_login(tracking_uri)}/"


def run_link(tracking_uri: str, experiment_id: str | None, run_id: str | None) -> str | None:
    """Return the address of a run's page, `None` if the run or its store's pages are not known."""
    if not run_id or not experiment_id or is_database(tracking_uri):
        return None
    if tracking_uri.startswith("databricks"):
        host = _databricks_host(tracking_uri)
        return f"{host}/ml/experiments/{experiment_id}/runs/{run_id}" if host else None
    if tracking_uri.startswith("azureml:"):
        return _studio_link(tracking_uri, f"runs/{run_id}")
    return f"{_without_login(tracking_uri)}/#/experiments/{experiment_id}/runs/{run_id}"


def batches_link(link: str) -> str:
    """Return the address of the page on which MLflow lists a batch among others, by that of its own; else the same."""
    page, is_own, _ = link.rpartition("/runs/")
    return f"{page}/runs?viewStateShareKey={BATCHES_VIEW}" if is_own and "/#/experiments/" in page else link


def _without_login(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _studio_link(tracking_uri: str, page: str) -> str | None:
    workspace = _WORKSPACE.search(tracking_uri)
    if not workspace:
        return None
    host = urlsplit(tracking_uri).netloc.lower()
    studio = next((name for end, name in _STUDIOS.items() if host.endswith(end)), "ml.azure.com")
    scope = "/subscriptions/{}/resourceGroups/{}/workspaces/{}".format(*workspace.groups())
    return f"https://{studio}/{page}?wsid={scope}"


def _databricks_host(tracking_uri: str) -> str | None:
    """Return a workspace's address as Databricks' own tools find it: from the environment, else of a profile."""
    profile = urlsplit(tracking_uri).netloc.partition(":")[0]
    host = "" if profile else os.environ.get("DATABRICKS_HOST", "")
    host = host or _profile_host(profile or os.environ.get("DATABRICKS_CONFIG_PROFILE") or "DEFAULT")
    if not host:
        return None
    return host.rstrip("/") if "://" in host else f"https://{host.rstrip('/')}"


def _profile_host(profile: str) -> str:
    path = Path(os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg").expanduser()
    profiles = configparser.ConfigParser(interpolation=None)
    try:
        profiles.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return profiles.get(profile, "host", fallback="") if profile in profiles else ""
