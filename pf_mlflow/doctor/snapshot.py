"""Check of what promptflow copies at each run: how large it is, and whether the flow's own parts are left out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pf_mlflow.adoption.vendor import COPY
from pf_mlflow.adoption.wiring import included
from pf_mlflow.doctor.check_result import OK, WARNING, CheckResult
from pf_mlflow.doctor.flow import node_sources
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.sources.promptflow.private_names import snapshot_ignores

__all__ = ["check_snapshot"]

_LARGE = 50 * 2**20
"""Bytes that make each run slow and promptflow's folder large."""
_NAMED = 3


def check_snapshot(setup: Setup) -> Iterator[CheckResult]:
    """Tell the size of what `pf run create` copies, and what should or should not be left out of it."""
    if setup.flow_dir is None or setup.dag is None:
        return
    patterns = snapshot_ignores(setup.flow_dir)
    own = _own_files(setup.flow_dir, setup.dag)
    entries = sorted(_entries(setup.flow_dir, patterns, own), key=lambda entry: -entry[1])
    includes = included(setup.dag, setup.flow_dir).values()
    size = sum(bytes_ for _, bytes_ in entries) + sum(_size(path, patterns) for path in includes)
    left_out = {pattern: path for path in own if (pattern := _left_out(path, setup.flow_dir, patterns))}
    if size > _LARGE:
        yield _too_large(setup.flow_dir, entries, size)
    for pattern, path in left_out.items():
        message = (
            f"{path} is left out of a copy in the cloud by the line {pattern!r}, so that the flow would not run there"
        )
        yield CheckResult(WARNING, message, f"take `{pattern}` out of {_ignore_file(setup.flow_dir)}")
    if size <= _LARGE and not left_out:
        yield CheckResult(OK, f"{_megabytes(size)} are copied at each run")


def _own_files(flow_dir: Path, dag: Mapping[str, Any]) -> set[Path]:
    """Return the files without which the flow does not run."""
    names = ["flow.dag.yaml", "pf_mlflow/__init__.py", COPY, *(path for _, path in node_sources(dag))]
    return {flow_dir / name for name in names if (flow_dir / name).is_file()}


def _entries(folder: Path, patterns: list[str], own: set[Path]) -> Iterator[tuple[Path, int]]:
    """Yield what is copied out of a folder with its size in bytes; folders that hold own files by their parts."""
    for path in folder.iterdir():
        if _matches(path.name, patterns):
            continue
        if path.is_dir() and any(path in file.parents for file in own):
            yield from _entries(path, patterns, own)
        else:
            yield path, _size(path, patterns)


def _size(path: Path, patterns: list[str]) -> int:
    if path.is_dir():
        return sum(_size(inner, patterns) for inner in path.iterdir() if not _matches(inner.name, patterns))
    return path.stat().st_size if path.is_file() else 0


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _too_large(flow_dir: Path, entries: list[tuple[Path, int]], size: int) -> CheckResult:
    large = [entry for entry in entries[:_NAMED] if entry[1] > 2**20]
    named = [f"{path.relative_to(flow_dir)} {_megabytes(bytes_)}" for path, bytes_ in large]
    message = f"{_megabytes(size)} are copied at each run, the largest of it {', '.join(named)}"
    lines = []
    for path, bytes_ in entries:
        if size <= _LARGE:
            break
        lines.append(path.name)
        size -= bytes_
    file = flow_dir / ".amlignore"
    words = shlex.join(["printf", r"\n%s" * len(lines) + r"\n", *lines])
    keep = f"cp {shlex.quote(str(flow_dir / '.gitignore'))} {shlex.quote(str(file))} && "
    needs_copy = not file.exists() and (flow_dir / ".gitignore").exists()  # where both are, only .amlignore counts
    return CheckResult(
        WARNING, message, f"if the flow does not need it: `{keep * needs_copy}{words} >> {shlex.quote(str(file))}`"
    )


def _left_out(path: Path, flow_dir: Path, patterns: list[str]) -> str | None:
    """Return the line by which a file would not be uploaded, as Git reads it: the last that matches decides."""
    parts = path.relative_to(flow_dir).parts
    tails = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    found = None
    for pattern in patterns:
        plain = pattern.lstrip("!").strip("/")
        is_rooted = "/" in pattern.lstrip("!").rstrip("/")
        if plain and not plain.startswith("#") and any(fnmatch(t if is_rooted else Path(t).name, plain) for t in tails):
            found = None if pattern.startswith("!") else pattern
    return found


def _ignore_file(flow_dir: Path) -> Path:
    return next(path for name in (".amlignore", ".gitignore") if (path := flow_dir / name).exists())


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
