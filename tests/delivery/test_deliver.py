from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from builders import batch

from pf_mlflow.delivery.deliver import DeliveryObserver, Policy, deliver_once
from pf_mlflow.delivery.retry_policy import Deadline
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.records.source import BatchFacts
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.spool.store import Spool


class Broken(LocalSource):
    def facts(self) -> BatchFacts:
        raise KeyError("display_name")


@pytest.mark.parametrize(
    ("source", "folder", "error", "says"),
    [
        (Broken, ".", KeyError, "KeyError: 'display_name'"),
        (LocalSource, "nowhere", TrackingRefused, "is not a folder"),
    ],
)
def test_whatever_goes_wrong_is_in_the_result(
    tmp_path: Path, source: type[LocalSource], folder: str, error: type[Exception], says: str
) -> None:
    spool, one = Spool(tmp_path / "spool"), batch()
    spool.add_batch(one)
    uri = f"sqlite:///{tmp_path / folder}/mlflow.db"
    done = deliver_once(spool, source(one), uri, nullcontext(), Policy(Deadline(0.0)), DeliveryObserver())
    assert isinstance(done.error, error) and done.trouble and says in done.trouble
    assert (done.is_closed, done.is_deleted, done.lines) == (False, False, 0)
    state = spool.state(one.uid)
    assert state and state.closed is None
