"""Checks of the machine: Python, packages, settings."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path

from pf_mlflow.__version__ import __version__
from pf_mlflow.doctor.check_result import ERROR, OK, WARNING, CheckResult
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.settings.judges import setting_variables
from pf_mlflow.versions import declared_packages, declared_python, misfits

__all__ = ["check_packages", "check_python", "check_settings"]

_SHOWN = ("promptflow", "mlflow", "openai")


def check_python(setup: Setup) -> Iterator[CheckResult]:
    """Tell whether this Python is supported, and whether `pf` runs by the same."""
    here, supported = platform.python_version(), declared_python()
    if here not in supported:
        remedy = "make an environment with another, as `python3.12 -m venv .venv`, and install into that"
        yield CheckResult(ERROR, f"Python {here} is not supported, only {supported}", remedy)
    elif stranger := _strange_pf():
        remedy = f"`export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH`"
        yield CheckResult(WARNING, f"`pf` is {stranger}, of another Python than pf-mlflow's, {sys.executable}", remedy)
    else:
        yield CheckResult(OK, f"{here}, {sys.executable}")


def _strange_pf() -> str | None:
    """Return the `pf` that a user would call if it is not of this Python."""
    found = shutil.which("pf")
    own = {Path(sys.executable).parent.resolve(), Path(sysconfig.get_path("scripts")).resolve()}
    return found if found and Path(found).resolve().parent not in own else None


def check_packages(setup: Setup) -> Iterator[CheckResult]:
    """Tell whether what pf-mlflow needs is installed in supported versions."""
    wrong = list(misfits(declared_packages()))
    if wrong:
        words = [sys.executable, "-m", "pip", "install", *(misfit.requirement for misfit in wrong)]
        yield CheckResult(ERROR, ", ".join(map(str, wrong)), f"`{shlex.join(words)}`")
    else:
        yield CheckResult(OK, ", ".join([f"pf-mlflow {__version__}", *(f"{name} {version(name)}" for name in _SHOWN)]))


def check_settings(setup: Setup) -> Iterator[CheckResult]:
    """Tell of settings that cannot be used, that do not exist, or that switch everything off."""
    for variable, fault in setup.faulty_settings.items():
        yield CheckResult(ERROR, fault.rstrip("."), f"{setup.place_of(variable)}, or give it another value")
    known = setting_variables()
    unknown = [name for name in os.environ if name.upper().startswith("PF_MLFLOW_") and name.upper() not in known]
    for variable in unknown:
        meant = get_close_matches(variable.upper(), known, 1)
        hint = f", meaning {meant[0]}?" if meant else ""
        yield CheckResult(WARNING, f"there is no setting {variable}{hint}", setup.place_of(variable))
    if not setup.settings.enabled:
        message = "PF_MLFLOW_ENABLED is false: nothing is recorded"
        yield CheckResult(WARNING, message, setup.place_of("PF_MLFLOW_ENABLED"))
    if not (setup.faulty_settings or unknown) and setup.settings.enabled:
        given = ", ".join(sorted(name for name in os.environ if name.upper() in known))
        yield CheckResult(OK, given or "all as they come")
