"""What can be said of an SQLite store before MLflow is imported, which takes seconds: that nothing speaks against it.

The installed MLflow's revision of its tables is noted when it has opened a store. Needs neither mlflow nor SQLAlchemy.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pf_mlflow.settings import EXPERIMENT_ID

__all__ = ["is_usable", "note_revision"]

_NOTE = "known-store.json"
_PATH = re.compile(r"sqlite:///([^?%#]+)")
_LONGEST_NAME = 500
"""Characters of an experiment's name that MLflow takes."""
_WORKSPACES = "MLFLOW_ENABLE_WORKSPACES"

log = logging.getLogger(__name__)


def is_usable(tracking_uri: str, experiment: str, folder: Path) -> bool:
    """Tell whether MLflow would surely take a batch; if not, it has to be asked.

    Args:
        tracking_uri: Absolute.
        experiment: Its name; one that there is not yet can be made.
        folder: Where the revision is noted.
    """
    path = _path(tracking_uri)
    if path is None or not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK):
        return False
    if experiment.startswith(EXPERIMENT_ID) or not 0 < len(experiment) <= _LONGEST_NAME:
        return False
    try:
        with _reading(path) as db:
            stages = db.execute("SELECT lifecycle_stage FROM experiments WHERE name = ?", (experiment,)).fetchall()
            return stages in ([], [("active",)]) and _revision(db) == _noted(folder)
    except sqlite3.Error:  # MLflow will say what it thinks of that
        return False


def note_revision(tracking_uri: str, folder: Path) -> None:
    """Note the revision of the tables of a store that the installed MLflow has opened."""
    if (path := _path(tracking_uri)) is None:
        return
    draft = folder / f"{_NOTE}.{os.getpid()}"
    try:
        with _reading(path) as db:
            note = {"mlflow": _installed(), "revision": _revision(db)}
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(note), "utf-8")
        draft.replace(folder / _NOTE)
    except (OSError, sqlite3.Error):
        log.info("nothing is noted in %s", folder, exc_info=True)


def _path(tracking_uri: str) -> Path | None:
    found = _PATH.fullmatch(tracking_uri)
    return Path(found[1]) if found and os.environ.get(_WORKSPACES, "").lower() not in ("1", "true") else None


def _reading(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5))


def _revision(db: sqlite3.Connection) -> list[str]:
    return [revision for (revision,) in db.execute("SELECT version_num FROM alembic_version")]


def _noted(folder: Path) -> list[str] | None:
    """Return the revision of the installed MLflow's tables, `None` if it is not known."""
    try:
        note = json.loads((folder / _NOTE).read_text("utf-8"))
        return list(note["revision"]) if note["mlflow"] == _installed() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _installed() -> str:
    try:
        return version("mlflow")
    except PackageNotFoundError:
        return ""
