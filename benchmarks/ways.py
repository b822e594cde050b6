"""The ways to run the same lines that `benchmarks.run` compares, and what each leaves in MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from machine import ROOT, runs_of
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from benchmarks.parts import bare_flow

__all__ = ["BARE", "Run", "Way", "all_ways", "run_at"]

BARE = "bare `pf run create`"
AT_ONCE = (8, 32, 64)
_PF = ("pf", "run", "create")
_ARTICLE = Path(__file__).parent / "article_flow"


@dataclass(frozen=True)
class Way:
    """A command and a flow that log nothing."""

    name: str
    command: tuple[str, ...]
    flow: Path
    logs: ClassVar[bool] = False
    delivers_itself: ClassVar[bool] = False
    """Whether the command itself waits until MLflow has everything."""

    def words(self, data: Path, batch: str) -> list[str]:
        """Return the command line of a batch."""
        mapping = ["--column-mapping", "topic=${data.topic}"]
        return [*self.command, "--flow", str(self.flow), "--data", str(data), *mapping, "--name", batch]

    def prepare(self, uri: str, batch: str) -> Mapping[str, str]:
        """Do what has to be done before a batch can start; return the environment that it needs."""
        return {}

    def finished(self, uri: str, batch: str) -> int:
        """Return how many finished child runs MLflow shows of a batch that is over, 0 while it is not over."""
        return 0


class _Article(Way):
    """Nodes that write to MLflow themselves, below a run that there is on Azure ML and that is made here beforehand."""

    logs = True

    def prepare(self, uri: str, batch: str) -> Mapping[str, str]:
        client = MlflowClient(uri)
        parent = client.create_run(client.create_experiment(batch), run_name=batch)
        return {"ARTICLE_PARENT": parent.info.run_id}

    def finished(self, uri: str, batch: str) -> int:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(batch)
        assert experiment
        found = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'", max_results=50_000)
        return len(_children(found))


class _Nodes(Way):
    """Nodes that keep records, which a delivery process writes to MLflow."""

    logs = True

    def finished(self, uri: str, batch: str) -> int:
        runs = runs_of(uri, batch)
        children = _children(runs)
        parents_over = len(runs) > len(children) and all(run.info.status != "RUNNING" for run in runs)
        return sum(run.info.status == "FINISHED" for run in children) if parents_over else 0


class Run(_Nodes):
    """`pf-mlflow run`, which waits for the delivery process."""

    delivers_itself = True


def all_ways(folder: Path) -> list[Way]:
    """Return the ways; the flows that some of them need are made in the folder."""
    folder.mkdir()
    bare = bare_flow(folder / "bare", traced=False)
    article = Path(shutil.copytree(_ARTICLE, folder / "article"))
    shutil.copy(ROOT / "joke.jinja2", article)
    ours = [run_at(at_once) for at_once in AT_ONCE]
    unchanged = Run(f"{ours[-1].name}, the flow of the first row", ours[-1].command, bare)
    return [
        Way(BARE, _PF, bare),
        _Article("the article's way", _PF, article),
        _Nodes("`pf run create` with the nodes", _PF, ROOT),
        *ours,
        unchanged,
    ]


def run_at(at_once: int) -> Way:
    """Return `pf-mlflow run` with so many lines at once."""
    command = ("pf-mlflow", "run", "--concurrency", str(at_once))
    return Run(f"`pf-mlflow run`, {at_once} at once", command, ROOT)


def _children(runs: Sequence[MlflowRun]) -> list[MlflowRun]:
    return [run for run in runs if "mlflow.parentRunId" in run.data.tags]
