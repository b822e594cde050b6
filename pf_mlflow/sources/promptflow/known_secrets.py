"""What is known to be secret in this process: in its environment, and of promptflow's connections."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pf_mlflow.records.masking import Secrets, url_passwords
from pf_mlflow.sources.promptflow.private_names import connection_secrets, promptflow_home, run_database

__all__ = ["environment_secrets", "known_secrets"]

log = logging.getLogger(__name__)

_SHORTEST_OF_CONNECTION = 6
"""Characters of a connection's secret below which it is taken for a placeholder."""
_SHORTEST = 8
"""Characters of the shortest value of a variable that is taken for a secret."""
_SECRET_VARIABLE = re.compile(
    r"(^|_)(\w*KEY|\w*TOKEN|SECRET|PASS(WORD|WD|PHRASE|CODE)?|(?<=_)PWD|PAT|CREDENTIAL|CONNECTION_?STRING|CONN_?STR|SAS|DSN"
    r"|WEBHOOK|(DATABASE|DB|POSTGRES|MYSQL|REDIS|MONGO(DB)?|AMQP|RABBITMQ|BROKER|CELERY|WEBHOOK|PROXY)\w*_UR[IL])S?$"
    r"|^PG(PASSWORD|PASS)$",
    re.I,
)
_WORDS = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+)(?:[-_. ](?:[A-Z]?[a-z]+|[A-Z]+))?")
"""One word or two, as `postgres` and `not-needed`: no secret that could be masked without harm."""


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
        found = connection_secrets(home)
        return tuple(one for one in found if len(one) >= _SHORTEST_OF_CONNECTION and not _WORDS.fullmatch(one))
    except Exception as error:  # noqa: BLE001 - whatever a system's keyring raises, the rest is masked all the same
        log.warning("the secrets of promptflow's connections are not known: %s: %s", type(error).__name__, error)
        return ()


def environment_secrets(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the secret values among environment variables with secret names; ordinary words are none."""
    variables = os.environ if environ is None else environ
    named = (value for name, value in variables.items() if _is_secret_variable(name))
    return tuple(dict.fromkeys(part for value in named for part in _secret_parts(value)))


def _secret_parts(value: str) -> list[str]:
    """Return what is secret in a variable's value: of an address its password, of a connection string its keys."""
    if "://" in value:
        parts = url_passwords(value) + re.findall(r"[?&]\w*sig=([^&]+)", value)
    elif re.search(r";\s?\w[\w ]*=", value):
        pairs = (pair.partition("=")[::2] for pair in value.split(";"))
        parts = [one for name, one in pairs if re.search(r"key$|password|pwd|signature|secret", name, re.I)]
    else:
        parts = [value]
    return [part for part in parts if _is_no_word(part)]


def _is_no_word(value: str) -> bool:
    return len(value) >= _SHORTEST and not _WORDS.fullmatch(value) and not (value.isdigit() and len(value) < 12)


@lru_cache(maxsize=1024)
def _is_secret_variable(name: str) -> bool:
    return _SECRET_VARIABLE.search(name) is not None
