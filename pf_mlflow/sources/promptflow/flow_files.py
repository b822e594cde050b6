"""Where the flow files are that come with this package: its three nodes, its evaluation flow, what a cloud needs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PACKAGE", "flow_files"]

PACKAGE = Path(__file__).parents[2]
"""The folder of this package."""


def flow_files() -> Path:
    """Return the folder that holds them: in the installed package, or, in a checkout, beside it."""
    installed = PACKAGE / "flow_files"
    return installed if installed.is_dir() else PACKAGE.parent
