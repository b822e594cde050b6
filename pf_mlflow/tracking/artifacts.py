"""Files of runs: long texts, and tables that MLflow shows."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

from pf_mlflow.settings import without_password
from pf_mlflow.tracking.database import sqlite_path
from pf_mlflow.tracking.errors import artifact_errors

__all__ = ["Artifacts"]

_TAKES_TRACKING_URI = "tracking_uri" in signature(get_artifact_repository).parameters  # not in mlflow 3.1


class Artifacts:
    """The artifacts of one run, which is as MLflow's store at the tracking URI returns it."""

    def __init__(self, run: Run, tracking_uri: str) -> None:
        uri = add_databricks_profile_info_to_artifact_uri(_absolute(run.info.artifact_uri, tracking_uri), tracking_uri)
        more = {"tracking_uri": tracking_uri} if _TAKES_TRACKING_URI else {}
        self._shown_uri = without_password(tracking_uri)
        with artifact_errors(self._shown_uri):
            self._repository: Any = get_artifact_repository(uri, **more)

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Log texts by their paths."""
        with TemporaryDirectory() as folder:
            for path, text in texts.items():
                file = Path(folder) / posixpath.basename(path)
                file.write_text(text, "utf-8", newline="")
                self.log_file(file, posixpath.dirname(path) or None)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Log a file under its name."""
        with artifact_errors(self._shown_uri):
            self._repository.log_artifact(str(file), folder)

    def text(self, path: str) -> str:
        """Return a text."""
        with TemporaryDirectory() as folder, artifact_errors(self._shown_uri):
            return Path(self._repository.download_artifacts(path, folder)).read_text("utf-8")


def _absolute(artifact_uri: str, tracking_uri: str) -> str:
    """Return an address that is relative, as older MLflows keep `./mlruns/1`, from the folder of its SQLite store."""
    store = sqlite_path(tracking_uri)
    if store is None or urlsplit(artifact_uri).scheme or Path(artifact_uri).is_absolute():
        return artifact_uri
    return (store.parent / artifact_uri).as_uri()
