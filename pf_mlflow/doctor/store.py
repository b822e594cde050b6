"""Check of MLflow: whether it can be reached and written to, and whether runs may go into the experiment."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from urllib.parse import urlparse

from pf_mlflow.doctor.check_result import ERROR, OK, WARNING, CheckResult
from pf_mlflow.doctor.probe import Probe
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.errors import TrackingDown, TrackingError, TrackingForbidden
from pf_mlflow.settings import without_password
from pf_mlflow.settings.environment import proxied_by
from pf_mlflow.sqlite_file import rehearse_write

__all__ = ["answer", "check_store", "store_probe"]

_PATIENCE = 40.0
_SET = "MLFLOW_TRACKING_URI"


def store_probe(setup: Setup) -> Probe:
    """Begin to ask MLflow, in a process of its own: importing mlflow takes seconds and memory."""
    spool = setup.settings.spool_dir
    locks = spool if spool.is_dir() else Path(gettempdir())
    return Probe(__name__, setup.experiment, str(locks), **{_SET: setup.tracking_uri})


def check_store(setup: Setup, probe: Probe) -> Iterator[CheckResult]:
    """Wait for MLflow's answer and tell it."""
    try:
        found = [CheckResult(**one) for one in probe.answer(_PATIENCE)]
    except TimeoutError as error:
        message = f"MLflow at {without_password(setup.tracking_uri)}: {error}"
        found = [CheckResult(ERROR, message, _remedy_of_outage(setup.tracking_uri))]
    for result in found:
        if _SET in setup.environment:  # which the shell's variable does not change
            written = rf"write `{_SET}: \1` under environment_variables in {setup.yaml}"
            result = replace(result, remedy=re.sub(rf"`export {_SET}=(\S+)`", written, result.remedy))
        yield result


def answer(experiment: str, lock_dir: str) -> str:
    """Look at the store of `MLFLOW_TRACKING_URI` and return the results as JSON; meant for a process of its own."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it would write to the user's folder
    return json.dumps([asdict(one) for one in _examined(os.environ[_SET], experiment, Path(lock_dir))])


def _examined(uri: str, experiment: str, lock_dir: Path) -> Iterator[CheckResult]:
    from pf_mlflow.tracking.database import sqlite_path

    try:
        if path := sqlite_path(uri):
            yield from _file(uri, path, experiment, lock_dir)
        else:
            yield _server(uri, experiment, lock_dir)
    except TrackingError as error:
        yield _trouble(uri, error)


def _file(uri: str, path: Path, experiment: str, lock_dir: Path) -> Iterator[CheckResult]:
    """Look at an SQLite store, without making or changing it."""
    if not path.parent.is_dir():
        remedy = f"`mkdir -p {shlex.quote(str(path.parent))}`, or set {_SET}"
        yield CheckResult(ERROR, f"{uri} cannot be made: there is no folder {path.parent}", remedy)
    elif not os.access(path.parent, os.W_OK):
        remedy = f"start in another folder, or set {_SET}"
        yield CheckResult(ERROR, f"{uri} cannot be written: you may not write to {path.parent}", remedy)
    elif not path.exists() or not path.stat().st_size:
        yield CheckResult(OK, f"{uri}, which the first batch makes")
    elif found := _unwritable(path):
        yield found
    else:
        yield _readable(uri, experiment, lock_dir)


def _unwritable(path: Path) -> CheckResult | None:
    try:
        rehearse_write(path)
    except sqlite3.Error as error:
        file = shlex.quote(str(path))
        if "locked" in str(error):
            return CheckResult(
                WARNING, f"another process has been writing to {path} for seconds", f"see `fuser {file}`"
            )
        remedy = f"`chmod u+w {file}`" if "readonly" in str(error) else f"`mv {file} {file}.broken`, or set {_SET}"
        return CheckResult(ERROR, f"{path} cannot be written: {error}", remedy)
    return None


def _readable(uri: str, experiment: str, lock_dir: Path) -> CheckResult:
    from pf_mlflow.tracking.writer import StoreWriter

    store = StoreWriter(uri, experiment or "Default", lock_dir, dry_run=True)
    store.open_experiment()
    if not experiment:
        return CheckResult(OK, f"{uri}, to which can be written")
    made = "" if store.experiment_id else ", which the first batch makes"
    return CheckResult(OK, f"{uri}, to which can be written; experiment {experiment!r}{made}")


def _server(uri: str, experiment: str, lock_dir: Path) -> CheckResult:
    """Look at a server or database; a missing experiment is made, as the first batch would."""
    from pf_mlflow.tracking.writer import StoreWriter

    shown = without_password(uri)
    reading = StoreWriter(uri, experiment or "Default", lock_dir, dry_run=True)
    reading.open_experiment()
    if not experiment:
        return CheckResult(OK, f"{shown} answers; name a flow to see whether its experiment can be written to")
    store = StoreWriter(uri, experiment, lock_dir)
    store.open_experiment()
    if not reading.experiment_id:
        return CheckResult(OK, f"{shown}, to which can be written; experiment {experiment!r}, made just now")
    proven = uri.startswith("http") and _takes_writes(store)
    can = "to which can be written" if proven else "which answers; whether it takes runs only a batch can show"
    return CheckResult(OK, f"{shown}, {can}; experiment {experiment!r}")


def _takes_writes(store: Any) -> bool:
    try:
        store.check_writable()
    except TrackingForbidden:
        raise
    except TrackingError:  # a server that does not know this request
        return False
    return True


def _trouble(uri: str, error: TrackingError) -> CheckResult:
    shown = without_password(uri)
    is_down = isinstance(error, TrackingDown)
    found = CheckResult.of(error, _remedy_of_outage(uri) if is_down else f"mend {_SET}")
    if is_down and (cause := re.search(r"\[Errno -?\d+\] ([\w ]+)", found.message)):
        found = replace(found, message=f"MLflow at {shown} cannot be reached: {cause[1]}")
    if is_down and proxied_by(uri):
        found = replace(found, remedy=_remedy_of_outage(uri))
    here = "" if shown != uri else f"{_SET}={shlex.quote(uri)} "
    return replace(found, remedy=found.remedy.replace("`mlflow experiments", f"`{here}mlflow experiments"))


def _remedy_of_outage(uri: str) -> str:
    parts = urlparse(uri)
    host = parts.hostname or ""
    if proxy := proxied_by(uri):
        return f"`export NO_PROXY={host},$NO_PROXY`, for now the request goes to the proxy of {proxy}"
    waits = "until then the records of batches wait in the spool"
    if parts.scheme.startswith("http") and (host == "localhost" or host.startswith("127.")):
        return f"start it, for example `mlflow server --host {host} --port {parts.port or 80}`; {waits}"
    return f"see that it runs and that {_SET} is right; {waits}"
