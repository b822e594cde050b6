"""What is known to be secret in this process: in its environment, and of promptflow's connections."""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from pathlib import Path

from pf_mlflow.records.masking import Secrets, environment_secrets
from pf_mlflow.sources.promptflow.private_names import connection_secrets, promptflow_home, run_database

__all__ = ["known_secrets"]

log = logging.getLogger(__name__)

_SHORTEST = 6
"""Characters of a connection's secret below which it is taken for a placeholder."""


def known_secrets() -> Secrets:
    """Return what masks the secrets that are known now, looked for once a second: there may be hundreds."""
    return _secrets_of(int(time.monotonic()))


@lru_cache(maxsize=1)
def _secrets_of(second: int) -> Secrets:
    home = promptflow_home()
    database = run_database(home)
    changed = database.stat().st_mtime_ns if database.is_file() else 0
    return Secrets((*environment_secrets(), *_of_connections(home, changed)))


@lru_cache(maxsize=4)
def _of_connections(home: Path, changed: int) -> tuple[str, ...]:
    try:
        return tuple(secret for secret in connection_secrets(home) if len(secret) >= _SHORTEST)
    except Exception as error:  # noqa: BLE001 - whatever a system's keyring raises, the rest is masked all the same
        log.warning("the secrets of promptflow's connections are not known: %s: %s", type(error).__name__, error)
        return ()
