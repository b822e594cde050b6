"""Changes this process's environment for a time: what is set, and what may not be sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pf_mlflow.errors import TrackingForbidden
from pf_mlflow.settings import store_address, without_password

__all__ = ["changed_environment", "credentials_kept_to", "loopback_unproxied", "network_variables", "proxied_by"]

_CREDENTIALS = (
    *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_AUTH"),
    *("MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
)
"""Variables of what MLflow's client sends to whatever server it asks."""


_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_NETWORK = {*_PROXIES, "no_proxy", "ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@contextmanager
def changed_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let this process and its children have variables; afterwards the environment is as it was, whoever changed it."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def proxied_by(address: str) -> str | None:
    """Return the variable that names the proxy for an address, `None` if it is asked without one."""
    from urllib.request import getproxies, proxy_bypass  # which few commands need

    parts = urlsplit(address)
    if parts.scheme not in getproxies() or proxy_bypass(parts.hostname or ""):
        return None
    return f"{parts.scheme.upper()}_PROXY"


def network_variables(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return those that say how servers are reached, proxies and CAs, by their values."""
    named = {str(name): str(value) for name, value in variables.items() if str(name).lower() in _NETWORK}
    return {name: value for name, value in named.items() if "${" not in value}


def loopback_unproxied(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps this machine's own servers out of the proxy that variables name; nothing without one."""
    if not any(name.lower() in _PROXIES and value for name, value in variables.items()):
        return {}
    named = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    hosts = [host for one in named.split(",") if (host := one.strip())]
    if "*" in hosts:  # which means all only where it stands alone
        return {"NO_PROXY": "*", "no_proxy": "*"}
    both = ",".join(hosts + [host for host in _LOOPBACK if host not in hosts])
    return {"NO_PROXY": both, "no_proxy": both}


@contextmanager
def credentials_kept_to(store: str, named: str) -> Iterator[None]:
    """Hold back the environment's credentials while another store is asked than the one named beside them.

    Args:
        store: URI of the store that is asked.
        named: URI of the store that the credentials were configured beside; `""` if none was.

    Raises:
        TrackingForbidden: the store does not answer without; or its URI's own password is not known here.
    """
    if "***" in store:
        raise TrackingForbidden(
            f"The password for {store} is kept nowhere; set MLFLOW_TRACKING_URI to the whole address."
        )
    held = {name: os.environ[name] for name in _CREDENTIALS if name in os.environ}
    if not held or store_address(store) == store_address(named):
        yield
        return
    for name in held:
        del os.environ[name]
    try:
        yield
    except TrackingForbidden as error:
        beside = f"beside MLFLOW_TRACKING_URI={without_password(named)}" if named else "beside no MLFLOW_TRACKING_URI"
        told = f"{' and '.join(held)} set here {beside} are not sent to another server; set this one's beside its URI."
        raise TrackingForbidden(f"{error} {told}") from error
    finally:
        os.environ.update(held)
