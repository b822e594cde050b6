"""The inputs of a flex flow, which only its code tells: the parameters of what its `entry` names."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["entry_inputs"]


def entry_inputs(folder: Path, entry: str) -> Mapping[str, Any] | None:
    """Return a flex flow's inputs with their defaults, read and not imported; `None` if they do not stand there.

    Args:
        folder: The flow's folder.
        entry: `module:function` or `module:Class`.
    """
    module, _, name = entry.partition(":")
    try:
        body = ast.parse((folder / f"{module.replace('.', '/')}.py").read_text("utf-8")).body
    except (OSError, ValueError, SyntaxError):  # promptflow says so
        return None
    found = _named(body, name)
    if isinstance(found, ast.ClassDef):
        found = _named(found.body, "__call__")
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) or found.args.vararg or found.args.kwarg:
        return None
    inputs = _parameters(found.args)
    return {name: spec for name, spec in inputs.items() if name != "self"}


def _named(body: list[ast.stmt], name: str) -> ast.stmt | None:
    return next((one for one in reversed(body) if getattr(one, "name", None) == name), None)


def _parameters(args: ast.arguments) -> dict[str, dict[str, Any]]:
    positional = [*args.posonlyargs, *args.args]
    defaults = dict(zip(reversed(positional), reversed(args.defaults), strict=False))
    defaults |= {arg: default for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default}
    return {
        arg.arg: {"default": _value(defaults[arg])} if arg in defaults else {}
        for arg in (*positional, *args.kwonlyargs)
    }


def _value(default: ast.expr) -> Any:
    try:
        return ast.literal_eval(default)
    except ValueError:
        return ast.unparse(default)
