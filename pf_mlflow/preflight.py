"""What is checked before the first LLM call: everything that would make the batch or its tracking pointless."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pf_mlflow.errors import BadInput, TrackingRefused
from pf_mlflow.settings import without_password

__all__ = [
    "Misfit",
    "TrackingCheck",
    "check_data",
    "check_mapping",
    "check_versions",
    "declared_packages",
    "declared_python",
    "misfits",
    "read_flow",
]

SUPPORTED = {"promptflow": SpecifierSet(">=1.18,<1.19"), "mlflow": SpecifierSet(">=3.1,<=3.15.0")}
PYTHON = SpecifierSet(">=3.10,<3.14")

REFUSED, DOWN = 3, 4
_PATIENCE = 40
"""Seconds to wait for MLflow before the batch starts."""


@dataclass(frozen=True)
class Misfit:
    """A package that is missing, or of a version that is not supported."""

    package: str
    found: str | None
    supported: SpecifierSet

    @property
    def requirement(self) -> str:
        """What pip must be asked for."""
        return f"{self.package}{self.supported}"

    def __str__(self) -> str:
        return f"{self.package} {self.found} is not supported" if self.found else f"{self.package} is not installed"


def misfits(supported: Mapping[str, SpecifierSet] = SUPPORTED) -> Iterator[Misfit]:
    """Yield the packages that are not installed in a supported version."""
    for package, versions in supported.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Misfit(package, None, versions)
        else:
            if found not in versions:
                yield Misfit(package, found, versions)


def check_versions() -> None:
    """Raise `BadInput` if promptflow or mlflow is missing or of a version that is not supported."""
    for misfit in misfits():
        raise BadInput(f"{misfit}; run `pip install '{misfit.requirement}'`.")


def declared_packages() -> Mapping[str, SpecifierSet]:
    """Return what this package needs; where it is only a folder inside a flow, nothing tells more than `SUPPORTED`."""
    try:
        declared = [Requirement(one) for one in requires("pf-mlflow") or []]
    except PackageNotFoundError:
        return SUPPORTED
    wanted = (one for one in declared if one.marker is None or one.marker.evaluate({"extra": ""}))
    return {one.name: one.specifier for one in wanted}


def declared_python() -> SpecifierSet:
    """Return the Python versions that this package supports."""
    try:
        return SpecifierSet(metadata("pf-mlflow")["Requires-Python"])
    except (PackageNotFoundError, KeyError):
        return PYTHON


def read_flow(flow: Path) -> Mapping[str, Any]:
    """Return the `flow.dag.yaml` of a flow's folder; raise `BadInput` if there is none that can be read."""
    path = flow / "flow.dag.yaml" if flow.is_dir() else flow
    if not path.is_file():
        raise BadInput(f"There is no flow at {str(flow)!r}: {path} does not exist. Name the folder of a flow.dag.yaml.")
    try:
        dag = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(dag, dict) or not isinstance(dag.get("nodes"), list):
        raise BadInput(f"{path} has no list of nodes; only DAG flows can be run here.")
    if unnamed := [node for node in dag["nodes"] if not isinstance(node, dict) or "name" not in node]:
        raise BadInput(f"{path} has a node without a name: {unnamed[0]!r}.")
    for key in ("inputs", "outputs", "environment", "environment_variables"):
        if not isinstance(dag.get(key) or {}, dict):
            raise BadInput(f"{path} has no names under {key!r}, only {dag[key]!r}.")
    return dag


def check_data(data: Path) -> set[str] | None:
    """Return the columns of a data file, those of any line; raise `BadInput` naming what cannot be read.

    Lines of JSONL are read one by one; other formats are left to promptflow, and their columns are `None`.
    """
    if not data.exists():
        raise BadInput(f"The data file {str(data)!r} does not exist.")
    if data.suffix.lower() != ".jsonl":
        return None
    if data.is_dir():
        raise BadInput(f"{str(data)!r} is a folder; give it a file with one JSON object per line.")
    columns: set[str] = set()
    lines = 0
    with data.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                columns |= _columns(data, number, raw)
                lines += 1
    if not lines:
        raise BadInput(f"The data file {str(data)!r} is empty; give it one JSON object per line.")
    return columns


def _columns(data: Path, number: int, raw: bytes) -> set[str]:
    try:
        row = json.loads(raw)
    except ValueError as error:
        raise BadInput(f"{data} line {number} is no JSON ({error}): {raw[:60]!r}.") from error
    if not isinstance(row, dict):
        raise BadInput(f"{data} line {number} is no JSON object: {raw[:60]!r}.")
    return set(row)


def check_mapping(mapping: Mapping[str, str], columns: set[str] | None, dag: Mapping[str, Any], data: Path) -> None:
    """Raise `BadInput` if a mapping names an input or a column that there is not, or an input would get no value."""
    inputs = dag.get("inputs") or {}
    for name, source in mapping.items():
        if name not in inputs:
            raise BadInput(f"The flow has no input {name!r}; its inputs are {_listed(inputs)}.")
        column = re.fullmatch(r"\$\{data\.([^.}]+).*\}", str(source))
        if columns is not None and column and column[1] not in columns:
            raise BadInput(
                f"{data} has no column {column[1]!r} (mapped to {name!r}); its columns are {_listed(columns)}."
            )
    needed = [name for name, spec in inputs.items() if "default" not in (spec or {}) and name not in mapping]
    for name in needed:
        if columns is not None and name not in columns:
            raise BadInput(
                f"{data} has no column {name!r}, which the flow needs; map one with "
                f"--column-mapping {name}='${{data.COLUMN}}' (columns: {_listed(columns)})."
            )


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


@dataclass
class TrackingCheck:
    """Asks MLflow for the experiment, in a process of its own: importing mlflow takes seconds and memory."""

    tracking_uri: str
    experiment: str
    lock_dir: Path

    def __post_init__(self) -> None:
        self.lock_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pf_mlflow.preflight", self.experiment, str(self.lock_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"MLFLOW_TRACKING_URI": self.tracking_uri},
        )

    def warning(self) -> str | None:
        """Wait for the answer: `None` if all is well, a sentence if MLflow cannot be reached now.

        Raises:
            TrackingRefused: MLflow said no for good.
        """
        try:
            told, _ = self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return f"MLflow at {without_password(self.tracking_uri)} has not answered for {_PATIENCE} seconds."
        if self._process.returncode == REFUSED:
            raise TrackingRefused(told.strip())
        return told.strip() if self._process.returncode else None


def _ask(experiment: str, lock_dir: str) -> int:
    from pf_mlflow.errors import TrackingDown
    from pf_mlflow.projection import Projection

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        Projection(os.environ["MLFLOW_TRACKING_URI"], experiment, Path(lock_dir)).connect()
    except TrackingRefused as error:
        sys.stdout.write(str(error))
        return REFUSED
    except TrackingDown as error:
        sys.stdout.write(str(error))
        return DOWN
    return 0


if __name__ == "__main__":
    sys.exit(_ask(*sys.argv[1:]))
