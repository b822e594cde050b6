"""A change to the files of a folder: to be shown first, then made as a whole or not at all."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pf_mlflow.errors import BadInput

__all__ = ["FolderChange", "inside", "is_inside", "read_text"]

_SHOWN_ONE_BY_ONE = 5
"""New files of one folder up to which each is named."""


@dataclass
class FolderChange:
    """What some files of a folder will hold; paths are relative, with `/`. A file that will be gone holds `None`."""

    folder: Path
    files: dict[str, bytes | None] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()
    """Folders to remove afterwards if nothing is left in them."""

    def put(self, path: str, content: bytes | None) -> None:
        """Let a file hold this, if it does not do so already."""
        if self._now(path) != content:
            self.files[path] = content

    def _now(self, path: str) -> bytes | None:
        full = inside(self.folder, path)
        return full.read_bytes() if full.is_file() else None

    def lines(self, unsaid: Iterable[str] = ()) -> Iterator[str]:
        """Yield what will change: a diff of each text that is edited, names and counts of what else comes and goes."""
        shown = {path: new for path, new in sorted(self.files.items()) if path not in unsaid}
        for path, new in shown.items():
            old = self._now(path)
            if old is not None and new is not None:
                yield from [f"new content: {path}"] if b"\0" in new else _diff(path, old, new)
        yield from _counted("new", [path for path in shown if self._now(path) is None])
        yield from _counted("gone", [path for path, new in shown.items() if new is None])

    def make(self) -> None:
        """Write it all; if one file cannot be written, put back those that were.

        Raises:
            BadInput: a file cannot be written, or stands outside of the folder.
        """
        before = {path: self._now(path) for path in self.files}
        emptied = [inside(self.folder, name) for name in self.emptied]
        parents = {parent for path in self.files for parent in (self.folder / path).parents}
        made = [parent for parent in parents if not parent.exists()]
        done: list[str] = []
        try:
            for path, content in self.files.items():
                done.append(path)
                self._write(path, content)
        except OSError as error:
            for path in done:
                with suppress(OSError):  # the one that could not be written
                    self._write(path, before[path])
            _remove_if_empty(made)
            raise BadInput(f"{error.filename} cannot be written ({error.strerror}); nothing was changed.") from error
        _remove_if_empty(emptied)

    def _write(self, path: str, content: bytes | None) -> None:
        full = self.folder / path
        if content is not None:
            full.parent.mkdir(parents=True, exist_ok=True)
            mode = full.stat().st_mode if full.exists() and full.stat().st_nlink > 1 else None
            if mode is not None:  # a file of another folder too, as after `cp -al`
                full.unlink()
            full.write_bytes(content)
            if mode is not None:
                full.chmod(mode)
            return
        full.unlink(missing_ok=True)
        cache = full.parent / "__pycache__"
        for compiled in cache.glob(f"{full.stem}.*.pyc") if is_inside(self.folder, cache) else ():
            compiled.unlink()


def inside(folder: Path, path: str) -> Path:
    """Return where a relative path leads; raise `BadInput` if that is outside of the folder, by `..` or by a link."""
    full = folder / path
    if not is_inside(folder, full):
        raise BadInput(
            f"{path} leads out of {folder}, to {full.resolve()}, and nothing is touched there. Put a folder or file of "
            "the flow's own in its place. Nothing was changed."
        )
    return full


def is_inside(folder: Path, path: Path) -> bool:
    """Tell whether a path, there or not, leads into a folder when links and `..` are followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _remove_if_empty(folders: Iterable[Path]) -> None:
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        for one in (folder / "__pycache__", folder):
            if one.is_dir() and not one.is_symlink() and not any(one.iterdir()):
                one.rmdir()


def _diff(path: str, old: bytes, new: bytes) -> Iterator[str]:
    was, will_be = (content.decode("utf-8", "replace").splitlines() for content in (old, new))
    yield from difflib.unified_diff(was, will_be, f"a/{path}", f"b/{path}", lineterm="")


def _counted(word: str, paths: list[str]) -> Iterator[str]:
    """Name paths, those of a full folder together with those below it."""
    tops = Counter(path.partition("/")[0] for path in paths if "/" in path)
    for path in paths:
        top = path.partition("/")[0]
        if tops[top] <= _SHOWN_ONE_BY_ONE:
            yield f"{word}: {path}"
    yield from (f"{word}: {top}/ ({count} files)" for top, count in tops.items() if count > _SHOWN_ONE_BY_ONE)


def read_text(path: Path) -> str:
    """Return a file's text with its line ends as they are; raise `BadInput` if it cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not written in UTF-8 ({error.reason}); save it so, then try again.") from error
