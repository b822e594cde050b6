"""A check in a process of its own: it imports what takes seconds, or asks what may hang or want a password."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pf_mlflow
from pf_mlflow.settings import without_password

__all__ = ["Probe"]

# As with the delivery process, no file of the folder that the command was typed in may shadow a library.
_BOOT = (
    "import sys; sys.path[0] = sys.argv[1]; from importlib import import_module; "
    "sys.stdout.write('\\n' + import_module(sys.argv[2]).answer(*sys.argv[3:]))"
)


class Probe:
    """A process that calls a module's `answer(*words)`, which returns JSON."""

    def __init__(self, module: str, *words: str, **env: str) -> None:
        package_parent = str(Path(pf_mlflow.__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, package_parent, module, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | env,
            start_new_session=True,  # no terminal that it could ask for a password
        )

    def answer(self, patience: float) -> Any:
        """Wait for the answer.

        Raises:
            TimeoutError: it did not come within `patience` seconds.
            RuntimeError: the process failed; with the last line of what it said.
        """
        try:
            out, err = self._process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.end()
            raise TimeoutError(f"no answer for {patience:.0f} seconds") from None
        if self._process.returncode:
            raise RuntimeError(without_password((err.strip() or "it ended").splitlines()[-1]))
        return json.loads(out.splitlines()[-1])

    def end(self) -> None:
        """Kill the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
