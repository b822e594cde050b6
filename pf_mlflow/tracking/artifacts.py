"""Files of runs: long texts, and tables that MLflow shows."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

from pf_mlflow.tracking.database import sqlite_path

__all__ = ["Artifacts"]

_TAKES_TRACKING_URI = "tracking_uri" in signature(get_artifact_repository).parameters  # not in mlflow 3.1


class Artifacts:
    """The artifacts of one run.

    Args:
        run: As MLflow's store returns it.
        tracking_uri: Of the store.
    """

    def __init__(self, run: Run, tracking_uri: str) -> None:
        uri = run.info.artifact_uri
        path = sqlite_path(tracking_uri)
        if path and not urlsplit(uri).scheme and not Path(uri).is_absolute():  # as older MLflows keep it: `./mlruns/1`
            uri = (path.parent / uri).as_uri()
        uri = add_databricks_profile_info_to_artifact_uri(uri, tracking_uri)
        more = {"tracking_uri": tracking_uri} if _TAKES_TRACKING_URI else {}
        self._repository: Any = get_artifact_repository(uri, **more)

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Log texts by their paths."""
        with TemporaryDirectory() as folder:
            for name, text in texts.items():
                file = Path(folder) / Path(name).name
                file.write_text(text, "utf-8", newline="")
                self.log_file(file, Path(name).parent.as_posix())

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Log a file under its name."""
        self._repository.log_artifact(str(file), folder)

    def text(self, path: str) -> str:
        """Return a text."""
        with TemporaryDirectory() as folder:
            return Path(self._repository.download_artifacts(path, folder)).read_text("utf-8")
