"""Tells, once, that a flow carries files of an earlier version of this package."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pf_mlflow.__version__ import __version__
from pf_mlflow.adoption.manifest import Manifest
from pf_mlflow.adoption.plan import init_plan
from pf_mlflow.errors import BadInput

__all__ = ["upgrade_notice"]

_TOLD = "upgrades.txt"
"""In the spool's folder: a line for each flow and version that was told of."""


def upgrade_notice(flow_dir: Path, spool_dir: Path) -> str | None:
    """Return what to do where `pf-mlflow init` would put newer files into a flow, `None` if nothing or told before."""
    with suppress(BadInput, InvalidVersion, OSError):  # whoever uses the flow, or `doctor`, says what is odd about it
        manifest = Manifest.in_folder(flow_dir)
        if manifest and Version(manifest.version) < Version(__version__):
            newer = [path for path in init_plan(flow_dir).change.files if path in manifest.files]
            if newer and _is_news(f"{__version__} {flow_dir.resolve()}\n", spool_dir / _TOLD):
                return (
                    f"{', '.join(newer)} in {flow_dir} are of pf-mlflow {manifest.version}, and {__version__} is "
                    f"installed; `{shlex.join(['pf-mlflow', 'init', str(flow_dir)])}` brings them up to date."
                )
    return None


def _is_news(line: str, told: Path) -> bool:
    """Tell whether something was not told before, and note it."""
    if told.is_file() and line in told.read_text("utf-8").splitlines(keepends=True):
        return False
    told.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(told, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(line)
    return True
