"""Whether a script can be imported once more, as processes that Python starts do, without running its batch again."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from pf_mlflow.errors import BadInput

__all__ = ["check_guarded"]


def check_guarded() -> None:
    """Raise `BadInput` if the script that the main thread executes would start its batch again when imported."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec and spec.name.endswith(".__main__"):  # `python -m package`, which no process imports again
        return
    for frame in _main_frames():
        try:
            with open(frame.f_code.co_filename, encoding="utf-8") as script:
                tree = ast.parse(script.read())
        except (OSError, ValueError, SyntaxError):  # typed in, or a notebook's cell: nothing imports it
            continue
        if not any(node.lineno <= frame.f_lineno <= (node.end_lineno or 0) for node in _guards(tree)):
            raise BadInput(
                f"{frame.f_code.co_filename} line {frame.f_lineno} would run again in each process that promptflow "
                'starts, since these import the script; put it below `if __name__ == "__main__":`, or use threads.'
            )


def _main_frames() -> Iterator[FrameType]:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame:
        if frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>":
            yield frame
        frame = frame.f_back


def _guards(tree: ast.Module) -> Iterator[ast.If]:
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            yield node
