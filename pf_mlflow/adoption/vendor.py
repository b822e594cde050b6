"""The copy of this package that a flow carries to clouds which see nothing but its folder: one zip."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from pf_mlflow.sources.promptflow.flow_files import PACKAGE, flow_files

__all__ = ["COPY", "FIND_COPY", "copied_version", "node_file", "vendored_package"]

_LEFT_OUT = (
    "__main__.py",
    "adoption/",
    "api.py",
    "cleaning/",
    "cli/",
    "doctor/",
    "evaluation/inputs.py",
    "evaluation/run.py",
    "flow_files/",
    "reports/",
    "running/",
)
"""What people call; all else runs in a flow or delivers its lines."""
_DATA = ("syllables.txt.xz", "CMUDICT_LICENSE")
COPY = "pf_mlflow.zip"
FIND_COPY = f'sys.path.append(str(Path(__file__).parents[1] / "{COPY}"))'
"""How a node finds the copy, behind all else on the path: an installed package goes first."""


def vendored_package() -> bytes:
    """Return what runs in a flow and delivers its lines as one zip: of one version the same bytes everywhere."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # stored: compressed, its bytes would depend on zlib's version
        paths = [path for pattern in ("*.py", *_DATA) for path in PACKAGE.rglob(pattern)]
        for name in sorted(path.relative_to(PACKAGE).as_posix() for path in paths):
            if not name.startswith(_LEFT_OUT):
                entry = zipfile.ZipInfo(f"{PACKAGE.name}/{name}")
                entry.create_system = 3  # else Windows writes another number here
                archive.writestr(entry, (PACKAGE / name).read_bytes())
    return content.getvalue()


def node_file(name: str, vendored: bool) -> bytes:
    """Return the file of one of the three nodes, which imports the package from the copy if the flow carries one."""
    text = (flow_files() / "nodes" / f"{name}.py").read_text(encoding="utf-8")
    if vendored:
        found = f"\n{FIND_COPY}  # used where none is installed\n\nfrom pf_mlflow import"
        text = "import sys\nfrom pathlib import Path\n\n" + text.replace("\nfrom pf_mlflow import", found, 1)
    return text.encode()


def copied_version(copy: Path) -> str:
    """Return the version of a flow's copy of this package, a zip or a folder; `""` if it does not tell."""
    names = ("__version__.py", "__init__.py")  # the second in copies of earlier versions
    if copy.is_dir():
        texts = [(copy / name).read_text("utf-8") for name in names if (copy / name).is_file()]
    else:
        with zipfile.ZipFile(copy) as archive:
            texts = [archive.read(f"{PACKAGE.name}/{names[0]}").decode()]
    found = re.search(r'^__version__ = "(.+)"', "\n".join(texts), re.MULTILINE)
    return found[1] if found else ""
