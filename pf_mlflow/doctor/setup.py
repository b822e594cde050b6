"""What is examined: a machine with its settings, and perhaps a flow."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pf_mlflow.doctor.check_result import OK, WARNING, CheckResult
from pf_mlflow.errors import BadInput
from pf_mlflow.settings import Settings, flow_variables, read_settings
from pf_mlflow.sources.promptflow.flow import DAG, FLEX, read_flow

__all__ = ["Setup", "read_setup"]

_FLOWS = (DAG, FLEX)


@dataclass(frozen=True)
class Setup:
    """A machine with its settings, and perhaps a flow. Reading it changes this process's environment."""

    settings: Settings
    faulty_settings: Mapping[str, str]
    """Why settings that were left out cannot be used, a sentence each, by variable."""
    flow_dir: Path | None
    dag: Mapping[str, Any] | None
    """The flow's YAML; `None` without a flow of nodes that can be read."""
    environment: Mapping[str, Any]
    """The environment variables that the flow itself sets."""
    flow: tuple[CheckResult, ...]

    @property
    def tracking_uri(self) -> str:
        """Where the runs go."""
        return self.settings.store_of(self.flow_dir or Path.cwd())

    @property
    def experiment(self) -> str:
        """The experiment that runs go to, `""` if only a flow could tell."""
        return self.settings.experiment or (self.flow_dir.name if self.flow_dir else "")

    @property
    def yaml(self) -> Path | None:
        """The flow's YAML file."""
        files = [self.flow_dir / name for name in _FLOWS] if self.flow_dir else []
        return next((path for path in files if path.is_file()), None)

    @property
    def init(self) -> str:
        """The command that gives the flow its nodes."""
        return f"pf-mlflow init {shlex.quote(str(self.flow_dir))}"

    def place_of(self, variable: str) -> str:
        """Return how to take a variable back, wherever it was set."""
        if variable in self.environment:
            return f"take {variable} out of environment_variables in {self.yaml}"
        return f"`unset {variable}`"


def read_setup(named: Path | None) -> Setup:
    """Read the flow in a folder, by default the one here if there is one, and the settings that hold for it."""
    folder = named or (Path.cwd() if any(Path(name).is_file() for name in _FLOWS) else None)
    flow_dir, content, results = (None, {}, ()) if folder is None else _flow(folder)
    os.environ.update(flow_variables(content))
    faults = Settings.faults(os.environ)
    for variable in [name for name in os.environ if name.upper() in faults]:
        del os.environ[variable]
    dag = content if isinstance(content.get("nodes"), list) else None
    return Setup(read_settings(), faults, flow_dir, dag, content.get("environment_variables") or {}, results)


def _flow(named: Path) -> tuple[Path | None, Mapping[str, Any], tuple[CheckResult, ...]]:
    try:
        flow = read_flow(named)
    except BadInput as error:
        folder = named.resolve() if named.is_dir() else named.resolve().parent
        if named.suffix == ".prompty" or named.name == FLEX or (named / FLEX).is_file():
            return folder, {}, (_without_nodes(named),)  # promptflow tells what is wrong with it
        validate = f"mend it; `pf flow validate --source {shlex.quote(str(named))}` tells more"
        wrong = CheckResult.of(error, validate if named.exists() else "name the folder of a flow, or none")
        return (folder if named.exists() else None), {}, (wrong,)
    if not flow.is_dag:
        return flow.folder, flow.definition, (_without_nodes(named),)
    nodes = len(flow.definition["nodes"])
    return flow.folder, flow.definition, (CheckResult(OK, f"{flow.folder / DAG}, {nodes} nodes"),)


def _without_nodes(named: Path) -> CheckResult:
    message = f"{named} is a flex flow or a prompty: `pf-mlflow run` takes it as it is, plain `pf` records nothing"
    return CheckResult(WARNING, message, "`pf-mlflow sync BATCH` brings a batch of plain pf into MLflow afterwards")
