"""What is checked before the first LLM call: everything that would make the batch or its tracking pointless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pf_mlflow.errors import BadInput

__all__ = [
    "Misfit",
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
