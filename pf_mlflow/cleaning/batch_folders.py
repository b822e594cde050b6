"""promptflow's folders of batches: which of them MLflow makes needless."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pf_mlflow.cleaning.findings import BATCH, Kept, Removed, size_of
from pf_mlflow.delivery.sync import DELETED, EVALUATION, IN_LINE, RUNNING, SyncProgress, sync_batch
from pf_mlflow.errors import BadInput
from pf_mlflow.settings import Settings
from pf_mlflow.sources.promptflow.local_batch import known_batches
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, batch_uid, run_records
from pf_mlflow.spool.store import Spool

__all__ = ["batch_folders"]

_TEXTS = {".json", ".jsonl", ".log", ".txt"}
_YOUNG = "younger than asked for"
_SCORES = "an evaluation: MLflow shows its scores only until the next one of the same batch"
_LACKS = {
    RUNNING: "it is running",
    EVALUATION: _SCORES,
    DELETED: "its runs were deleted in MLflow",
}


def batch_folders(settings: Settings, before: float, progress: SyncProgress) -> Iterator[Removed | Kept]:
    """Yield the batches that ended before a Unix time and that MLflow has every value of, and why the others stay."""
    records, spool = run_records(promptflow_home()), Spool(settings.spool_dir)
    why = {one.name: _why_kept(one, spool, settings, before, progress) for one in records}
    needed = _needed(records, {name for name, reason in why.items() if reason not in ("", _YOUNG, _SCORES)})
    for one in records:
        reason = why[one.name] or (f"the batch {needed[one.name]} needs it" if one.name in needed else "")
        yield Kept(BATCH, one.name, reason) if reason else Removed(BATCH, one.name, size_of(one.folder))


def _needed(records: Iterable[RunRecord], lacking: set[str]) -> dict[str, str]:
    """Return the batches without which others could not be brought into MLflow, each with one of those."""
    needed: dict[str, str] = {}
    for one in reversed(list(records)):  # what needs another is younger
        if one.name in lacking or one.name in needed:
            needed |= {other: one.name for other in (one.base_batch, one.resumed_from) if other}
    return needed


def _why_kept(record: RunRecord, spool: Spool, settings: Settings, before: float, progress: SyncProgress) -> str:
    """Return why a batch's folder stays, `""` if it may go."""
    if not record.folder.is_dir():
        return "it has no folder"
    if (record.end or record.folder.stat().st_mtime) > before:
        return _YOUNG
    if other := _other_file(record.folder):
        return f"MLflow does not have {other.relative_to(record.folder)}"
    try:
        return _what_mlflow_lacks(record, spool, settings, progress)
    except BadInput as error:
        return str(error)


def _other_file(folder: Path) -> Path | None:
    """Return a file, as of an image, that is no text of the lines and no part of promptflow's copy of the flow."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and folder / "snapshot" not in path.parents)
    return next((path for path in files if path.suffix not in _TEXTS), None)


def _what_mlflow_lacks(record: RunRecord, spool: Spool, settings: Settings, progress: SyncProgress) -> str:
    uid = batch_uid(promptflow_home(), record.name, record.created_on)
    batch = next(one for one in known_batches(spool, settings, record.name) if one.uid == uid)
    done = sync_batch(spool, batch, settings, True, progress)
    if done.state != IN_LINE or not done.succeeded or done.trouble:
        return (
            _LACKS.get(done.state) or done.trouble or "MLflow lacks something of it: `pf-mlflow sync` brings it there"
        )
    if done.lacking:
        return f"no file could keep the long texts of {done.lacking} of its lines"
    if batch.content == "none":
        return "its texts were kept out of MLflow"
    return _SCORES if batch.base_uid or record.is_evaluation() else ""
