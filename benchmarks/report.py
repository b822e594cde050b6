"""Tables of figures, with what they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version

import psutil

__all__ = ["measured_on", "table"]

_PACKAGES = ("promptflow", "mlflow", "openai", "opentelemetry-sdk")


def measured_on() -> str:
    """Return date, machine and versions in one line."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    python = platform.python_version()
    return f"{date.today()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {python}, {versions}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
