"""Installs other programs into folders of their own, once, below `~/.cache/pf-mlflow-peers`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Installed", "NotInstalled", "npm_programs", "pip_environment"]

_CACHE = Path.home() / ".cache" / "pf-mlflow-peers"
_COMPLETE = "complete"
"""A file that stands in a folder when everything was installed into it."""


@dataclass(frozen=True)
class Installed:
    """The folder of a program, and the program's version."""

    programs: Path
    version: str


class NotInstalled(Exception):
    """A program could not be installed; the text says why in one sentence."""


def pip_environment(package: str, *others: str) -> Installed:
    """Return a virtual environment that has a package, and others that it needs."""
    folder = _CACHE / package
    if not (folder / _COMPLETE).exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "install", package, *others])
        (folder / _COMPLETE).touch()
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run([folder / "bin" / "python", "-c", asked], capture_output=True, text=True, check=True)
    return Installed(folder / "bin", told.stdout.strip())


def npm_programs(package: str, *others: str) -> Installed:
    """Return a folder that has an npm package, and others that are to be there first, such as a newer Node.js."""
    folder = _CACHE / package
    if not shutil.which("npm"):
        raise NotInstalled("npm is not there.")
    if not (folder / _COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"private": True}), "utf-8")
        for one in (*others, package):  # npm takes the newest version that its own Node.js can run
            _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", one], folder)
        (folder / _COMPLETE).touch()
    modules = folder / "node_modules"
    told = json.loads((modules / package / "package.json").read_text("utf-8"))
    return Installed(modules / ".bin", told["version"])


def _run(words: Sequence[str], folder: Path | None = None) -> None:
    print(f"Installing: {' '.join(words)}", file=sys.stderr, flush=True)
    path = f"{folder}/node_modules/.bin:{os.environ['PATH']}"
    done = subprocess.run(words, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line and "log of this run" not in line]
        raise NotInstalled(
            f"`{' '.join([Path(words[0]).name, *words[1:]])}` failed: {said[-1] if said else 'silently'}"
        )
