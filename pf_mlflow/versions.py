"""Which versions of Python, promptflow and mlflow are supported, and whether they are installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pf_mlflow.errors import BadInput

__all__ = ["SUPPORTED", "check_versions", "declared_packages", "declared_python", "misfits"]

SUPPORTED = {"promptflow": SpecifierSet(">=1.18,<1.19"), "mlflow": SpecifierSet(">=3.1,<=3.15.0")}
_PYTHON = SpecifierSet(">=3.10,<3.14")


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
        return _PYTHON
