"""Which credentials of this process's environment the store of a batch may be sent."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from pf_mlflow.records.batch import Batch
from pf_mlflow.settings import Settings
from pf_mlflow.settings.environment import credentials_kept_to
from pf_mlflow.sources.promptflow.local_batch import settings_of, tracking_uri_of
from pf_mlflow.sources.promptflow.run_record import run_record

__all__ = ["access_to_store_of"]


def access_to_store_of(batch: Batch, settings: Settings) -> AbstractContextManager[None]:
    """Return what holds back credentials that were configured for another store than a batch's.

    They are for the store that the environment names, else for the one that the batch's flow does.
    """
    named = settings.tracking_uri
    if not named and batch.promptflow_home and (record := run_record(Path(batch.promptflow_home), batch.name)):
        named = settings_of(record, settings).tracking_uri
    return credentials_kept_to(tracking_uri_of(batch, settings), named)
