"""Finds out why child runs do not come as they should: checks of the machine and of a flow, each with its remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pf_mlflow.doctor import connections, flow, machine, snapshot, spool, store
from pf_mlflow.doctor.check_result import ERROR, CheckResult, verdict
from pf_mlflow.doctor.probe import Probe
from pf_mlflow.doctor.setup import Setup, read_setup
from pf_mlflow.errors import PfMlflowError
from pf_mlflow.records.masking import MASK
from pf_mlflow.settings import without_password
from pf_mlflow.sources.promptflow.known_secrets import environment_secrets
from pf_mlflow.sources.promptflow.private_names import promptflow_home

__all__ = ["CheckResult", "examine", "verdict"]

log = logging.getLogger(__name__)

_KEYRING_PATIENCE = 20.0


def examine(flow_dir: Path | None = None) -> list[CheckResult]:
    """Look at everything and return what was found, at least one result for each check that applies.

    `flow_dir` is the flow's folder; by default the current one if it holds a flow. Changes nothing, but for an
    experiment that a tracking server lacks and that the first batch would make.
    """
    setup = read_setup(flow_dir)
    asked_store = store.store_probe(setup)
    asked_keyring = Probe(connections.__name__, str(promptflow_home()))
    try:
        return _results(setup, asked_store, asked_keyring)
    finally:
        asked_store.end()
        asked_keyring.end()


def _results(setup: Setup, asked_store: Probe, asked_keyring: Probe) -> list[CheckResult]:
    kept = connections.kept_of(asked_keyring, _KEYRING_PATIENCE)
    checks: dict[str, Callable[[], Iterable[CheckResult]]] = {
        "python": lambda: machine.check_python(setup),
        "packages": lambda: machine.check_packages(setup),
        "settings": lambda: machine.check_settings(setup),
        "keyring": lambda: connections.check_keyring(kept),
        "flow": lambda: setup.flow,
        "nodes": lambda: flow.check_nodes(setup),
        "copy": lambda: flow.check_copy(setup),
        "tracing": lambda: flow.check_tracing(setup),
        "connections": lambda: connections.check_connections(setup, kept),
        "snapshot": lambda: snapshot.check_snapshot(setup),
        "spool": lambda: spool.check_spool(setup),
        "leftovers": lambda: spool.check_leftovers(setup),
        "delivery": lambda: spool.check_delivery(setup),
        "mlflow": lambda: store.check_store(setup, asked_store),
    }
    return [_shown(name, result) for name, check in checks.items() for result in _looked(check)]


def _looked(check: Callable[[], Iterable[CheckResult]]) -> list[CheckResult]:
    """Return what a check finds; that it failed itself is a result too, and the others go on."""
    found: list[CheckResult] = []
    try:
        for result in check():
            found.append(result)
    except PfMlflowError as error:
        found.append(CheckResult.of(error, "mend what it says"))
    except Exception as error:
        log.debug("a check failed", exc_info=True)
        message = f"could not be checked: {type(error).__name__}: {error}"
        found.append(CheckResult(ERROR, message, "mend what it says and look again; the other checks hold"))
    return found


def _shown(name: str, result: CheckResult) -> CheckResult:
    return replace(result, check=name, message=_without_secrets(result.message), remedy=_without_secrets(result.remedy))


def _without_secrets(text: str) -> str:
    """Return one line of text without what must not be shown."""
    for secret in environment_secrets():
        text = text.replace(secret, MASK)
    return without_password(" ".join(text.split()))
