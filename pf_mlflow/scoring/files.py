"""Where the files are that a user's metrics and judges stand in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pf_mlflow.errors import BadInput

__all__ = ["found_file"]


def found_file(file: str, folders: Sequence[str | Path], what: str) -> Path:
    """Return the whole path of a file.

    Args:
        file: Its path.
        folders: Where a relative path is looked for, first match first; none is the current folder.
        what: What the file holds, for the error.

    Raises:
        BadInput: there is no such file.
    """
    wanted = Path(file).expanduser()
    tried = [Path(folder) / wanted for folder in folders or (Path.cwd(),)]
    for path in tried:
        if path.is_file():
            return path.resolve()
    where = wanted if wanted.is_absolute() else f"{file} in {' or '.join(str(path.parent) for path in tried)}"
    raise BadInput(f"There is no {what} file {where}.")
