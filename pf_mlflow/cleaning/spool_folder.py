"""The spool's folder: the file's free pages, the delivery processes' log, copies of other versions of this package."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pf_mlflow.__version__ import __version__
from pf_mlflow.cleaning.findings import COPY, LOG, SPOOL, Kept, Removed, size_of
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.spool.launch import DELIVERY_LOG, is_held
from pf_mlflow.spool.store import Spool

__all__ = ["spool_folder"]


def spool_folder(folder: Path, before: float, dry_run: bool) -> Iterator[Removed | Kept]:
    """Take away what no line waits in: free pages whenever there are, files older than a Unix time."""
    file = folder / Spool.FILE
    if not file.is_file():
        return
    spool = Spool(folder)
    if user := _user_of(spool):
        yield Kept(SPOOL, str(file), f"{user} is using it; clean up when it is over")
        return
    yield from _old_files(folder, before, dry_run)
    if dry_run:
        freed = spool.size() - spool.used()
    else:
        try:
            freed = spool.compact()
        except sqlite3.OperationalError as error:  # somebody writes after all, or the disk has no room for a copy
            yield Kept(SPOOL, str(file), str(error), failed=True)
            return
    if freed > 0:
        yield Removed(SPOOL, str(file), freed)


def _user_of(spool: Spool) -> str:
    """Return the batch that writes to the spool or is delivered from it, `""` if none is."""
    for batch in spool.leftovers(math.inf, refused=True):
        if is_held(spool.folder, batch.uid) or LocalSource.of(batch, spool).is_running():
            return f"the batch {batch.name}" if batch.name else "a single run"
    return ""


def _old_files(folder: Path, before: float, dry_run: bool) -> Iterator[Removed]:
    log = folder / DELIVERY_LOG
    copies = [*(folder / "packages").glob("*"), *(folder / "flows").glob("*")]
    others = [path for path in copies if path.name.partition("-")[0] != __version__]
    for kind, paths in ((LOG, [log] if log.is_file() else []), (COPY, others)):
        for path in paths:
            if path.stat().st_mtime < before and (size := size_of(path)):
                if not dry_run:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                yield Removed(kind, str(path), size)
