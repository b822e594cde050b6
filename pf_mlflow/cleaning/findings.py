"""What was found on this machine: taken away, or kept, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BATCH", "CONNECTION", "COPY", "LOG", "SPOOL", "Cleaned", "Kept", "Removed", "size_of"]

SPOOL = "spool"
LOG = "log"
COPY = "copy"
CONNECTION = "connection"
BATCH = "batch"


@dataclass(frozen=True)
class Removed:
    """Something that was taken away, or in a dry run would be."""

    kind: str
    """`spool`, `log`, `copy`, `connection` or `batch`."""
    name: str
    size: int = 0
    """Bytes."""


@dataclass(frozen=True)
class Kept:
    """Something that stays."""

    kind: str
    name: str
    why: str
    failed: bool = False
    """Whether it was to be taken away and could not be."""


@dataclass
class Cleaned:
    """All that was found."""

    removed: list[Removed] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def add(self, found: Iterable[Removed | Kept]) -> None:
        """Sort in what was found."""
        for one in found:
            if isinstance(one, Removed):
                self.removed.append(one)
            else:
                self.kept.append(one)

    @property
    def size(self) -> int:
        """How many bytes were freed."""
        return sum(one.size for one in self.removed)

    @property
    def succeeded(self) -> bool:
        """Whether all that was to go is gone."""
        return not any(one.failed for one in self.kept)

    def as_dict(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "size": self.size,
            "removed": [asdict(one) for one in self.removed],
            "kept": [asdict(one) for one in self.kept],
        }


def size_of(path: Path) -> int:
    """Return how many bytes a file takes, or all files of a folder; what is not there takes none."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.is_file() and not one.is_symlink())
