"""Metrics of the user's own: one Python function in a file.

A metric is named `path/to/file.py`, or `path/to/file.py:function` where the file defines several. The function takes
by name what it needs of a line and returns a number, a bool or a text.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records.score import plain_value
from pf_mlflow.scoring.files import found_file
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.metric import Metric, sentence

__all__ = ["is_custom", "load"]

_SPEC = re.compile(r"(?P<file>.+\.py)(:(?P<function>\w+))?", re.DOTALL)
_EMPTY = inspect.Parameter.empty
_lock = threading.RLock()
_loaded: dict[Path, tuple[tuple[int, int], ModuleType]] = {}


def is_custom(entry: str) -> bool:
    """Say whether an entry of the metrics names a file."""
    return _SPEC.fullmatch(entry) is not None


def load(spec: str, folders: Sequence[str | Path] = ()) -> Metric:
    """Return the metric of a file, which is run once until it changes.

    Args:
        spec: `file.py` or `file.py:function`.
        folders: Where a relative path is looked for, first match first; none is the current folder.

    Raises:
        BadInput: the file is missing or cannot be run, or does not tell which function is meant.
    """
    named = _SPEC.fullmatch(spec)
    if named is None:
        raise BadInput(f"{spec!r} names no metric file; write path/to/file.py or path/to/file.py:function.")
    path = found_file(named["file"], folders, "metric")
    function = _function(_module(path), path, named["function"])
    return Metric(function.__name__, _needs(function), partial(_call, function), by_default=False)


def _module(path: Path) -> ModuleType:
    """Return a file as a module; run it where it is new or has changed."""
    with _lock:
        try:
            stat = path.stat()
            version = (stat.st_mtime_ns, stat.st_size)
            if path not in _loaded or _loaded[path][0] != version:
                _loaded[path] = (version, _run(path))
        except (Exception, SystemExit) as error:
            raise BadInput(f"The metric file {path} cannot be loaded: {sentence(error)}.") from error
        return _loaded[path][1]


def _run(path: Path) -> ModuleType:
    """Run a file under a name that no module of the user's has; dataclasses look their module up by it."""
    module = ModuleType(f"_pf_mlflow_metric_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}")
    module.__file__ = str(path)
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _function(module: ModuleType, path: Path, name: str | None) -> Callable[..., Any]:
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    if name is None and len(own) == 1:
        return next(iter(own.values()))
    chosen = own.get(name or path.stem) or getattr(module, name or "", None)
    if chosen is not None and callable(chosen) and hasattr(chosen, "__name__"):
        return chosen
    functions = ", ".join(sorted(own)) or "none"
    if name:
        raise BadInput(f"The metric file {path} has no function {name}; it defines: {functions}.")
    raise BadInput(f"Write {path.name}:function for the one meant in {path}; it defines: {functions}.")


def _needs(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the fields that a function cannot be called without; an answer that is missing is given as ""."""
    return tuple(name for name, one in _parameters(function).items() if one.default is _EMPTY and name != "answer")


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in by_name
    }


def _call(function: Callable[..., Any], fields: LineFields) -> float | bool | str:
    """Call a metric with the fields that it names, or with all where it takes `**fields`."""
    given = {"answer": "", **fields.as_dict()}
    signature = inspect.signature(function)
    if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        given = {name: given[name] for name in _parameters(function) if name in given}
    value = function(**given)
    try:
        return plain_value(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"returned {error}") from error
