"""Somebody who types commands of ours, run inside the tests' own process: to import mlflow takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from finished import finished_batch, run_info
from json_schemas import check_json
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from pf_mlflow.cli import main
from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.local_batch import local_batch
from pf_mlflow.sources.promptflow.run_record import run_record
from pf_mlflow.spool.store import Spool


class Desk:
    """A promptflow home with finished batches, a spool, and a store beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(parents=True)
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.spool = Spool(folder / "spool")
        self.env = {
            "PF_HOME_DIRECTORY": str(self.home),
            "PF_MLFLOW_SPOOL_DIR": str(folder / "spool"),
            "PWD": str(folder),
            "COLUMNS": "80",
        }

    def leave(self, name: str, lines: Iterable[Mapping[str, Any]] | int = 2, **values: Any) -> Path:
        """Leave a batch behind that MLflow knows nothing of yet, and return its folder."""
        infos = map(run_info, range(lines)) if isinstance(lines, int) else lines
        return finished_batch(self.home, infos, name, **values)

    def type(self, *words: str, **env: str) -> Result:
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(main, words, env={**self.env, **env})
            check_json(words, done.stdout)
            return done
        finally:
            os.chdir(before)

    def deliver(self, *names: str, **env: str) -> None:
        done = self.type("sync", *(names or ("--all",)), **env)
        assert done.exit_code == 0, done.output

    def batch(self, name: str, **env: str) -> Batch:
        (found,) = self.spool.batches_named(name) or [
            local_batch(self.home, name, run_record(self.home, name), Settings(MLFLOW_TRACKING_URI=self.uri))
        ]
        return found

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self, name: str, view: str = ViewType.ACTIVE_ONLY) -> dict[str, Run]:
        """The runs of a batch by their line number, the parent's is `""`."""
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        found = self.client.search_runs(experiments, f"tags.`promptflow.run_id` = '{name}'", view)
        return {run.data.tags.get("promptflow.line_number", ""): run for run in found}
