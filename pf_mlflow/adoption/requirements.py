"""The lines of a flow's requirements: this package's own, and which are missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pf_mlflow.__version__ import __version__
from pf_mlflow.sources.promptflow.flow_files import PACKAGE

__all__ = ["IN_NO_INDEX", "conflicts", "is_own", "missing", "own_requirement"]

_OWN = "pf-mlflow"
IN_NO_INDEX = (
    f"{_OWN} is in no package index. Write your repository's address there; a cloud that sees nothing but the flow's "
    "folder needs `pf-mlflow init --vendor`."
)


def own_requirement() -> str:
    """Return the line by which pip installs this package again from where it was installed."""
    try:
        origin = distribution(_OWN).read_text("direct_url.json")
    except PackageNotFoundError:  # only on the path
        origin = json.dumps({"url": PACKAGE.parent.as_uri()})
    if origin is None:  # it came from an index
        return f"{_OWN}>={__version__}"
    found = json.loads(origin)
    source = found.get("vcs_info") or {}
    scheme = f"{source['vcs']}+" if source else ""
    revision = f"@{source['requested_revision']}" if "requested_revision" in source else ""
    return f"{_OWN} @ {scheme}{found['url']}{revision}"


def is_own(line: str) -> bool:
    """Tell whether a line requires this package."""
    found = _requirement(line.strip())
    return found is not None and canonicalize_name(found.name) == _OWN


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:  # an option, a path, a comment
        return None


def missing(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the wanted requirements whose packages are not listed; none if this package is."""
    have = {canonicalize_name(found.name) for line in there if (found := _requirement(line))}
    if _OWN in have:
        return []
    return [line for line in wanted if canonicalize_name(Requirement(line).name) not in have]


def conflicts(wanted: Iterable[str], there: Iterable[str]) -> Iterable[str]:
    """Yield what is to be told of pinned versions that do not go with what is wanted."""
    ours = {canonicalize_name(one.name): one.specifier for line in wanted if (one := _requirement(line))}
    for line in there:
        found = _requirement(line)
        pin = re.fullmatch(r"==\s*([\w.]+)", str(found.specifier)) if found else None
        if found and pin and pin[1] not in ours.get(canonicalize_name(found.name), found.specifier):
            yield f"pins {line}, but child runs need {found.name}{ours[canonicalize_name(found.name)]}."
