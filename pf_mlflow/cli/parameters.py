"""Kinds of values that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["NamedPath", "Pairs"]


class Pairs(click.ParamType[Any]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split a pair at its first `=`."""
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is no name=value pair", param, ctx)
        return name.strip(), text.strip().strip("'\"")


class NamedPath(click.ParamType[Path]):
    """A path; an empty one, as of a variable that is not set, would be the folder here."""

    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Take what is not empty."""
        if not str(value).strip():
            self.fail("it is empty; name a file or a folder, or leave the option out", param, ctx)
        return Path(value)
