"""Credentials go to the server that they were configured beside, and to no other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from finished import finished_batch, joke_call, run_info
from servers import CountingProxy

from pf_mlflow.delivery.process import deliver
from pf_mlflow.delivery.sync import SyncProgress, sync_batch
from pf_mlflow.errors import TrackingForbidden
from pf_mlflow.records.batch import Batch
from pf_mlflow.reports.show import show_batch
from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.local_batch import known_batches
from pf_mlflow.spool.store import Spool

Way = Callable[[Spool, Batch], str | None]


@pytest.fixture
def theirs() -> Iterator[CountingProxy]:
    """A server that lets nobody in."""
    with CountingProxy("http://127.0.0.1:9") as proxy:
        proxy.login = "somebody:else"
        yield proxy


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path / "home"))
    monkeypatch.setenv("PF_MLFLOW_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "rotated")
    return tmp_path / "home"


def synced(spool: Spool, batch: Batch) -> str | None:
    return sync_batch(spool, batch, read_settings(), False, SyncProgress()).trouble


def delivered(spool: Spool, batch: Batch) -> str | None:
    return deliver(spool, batch, read_settings(), patience=-1.0).trouble


def shown(spool: Spool, batch: Batch) -> str | None:
    try:
        show_batch(spool, read_settings(), batch.name)
    except TrackingForbidden as error:
        return str(error)
    return None


@pytest.mark.parametrize("way", [synced, delivered, shown])
@pytest.mark.parametrize(
    ("named", "flow_names", "sent"),
    [
        ("http://mine.example", False, False),
        ("", False, False),
        ("{uri}/", False, True),
        ("http://bob:pw@{host}", False, True),
        ("", True, True),
        ("http://mine.example", True, False),
    ],
)
def test_credentials_are_sent_to_the_store_that_they_stand_beside(
    theirs: CountingProxy,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Way,
    named: str,
    flow_names: bool,
    sent: bool,
) -> None:
    variables = f"environment_variables: {{MLFLOW_TRACKING_URI: {theirs.uri}}}" if flow_names else ""
    finished_batch(home, [run_info(0, joke_call())], dag=f"nodes: [{{name: joke, type: llm}}]\n{variables}")
    spool = Spool(tmp_path / "spool")
    batch = replace(known_batches(spool, read_settings(), "b1")[-1], tracking_uri=theirs.uri)
    spool.add_batch(batch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named.format(uri=theirs.uri, host=theirs.uri.removeprefix("http://")))
    told = way(spool, batch)
    assert told and "answered 401" in told
    assert any(login for login in theirs.logins) == sent
    assert ("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD set here" in told) != sent
    assert spool.leftovers() == [batch]
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "rotated"
    shutil.rmtree(home)


def test_a_store_whose_password_is_not_known_here_is_not_asked(
    theirs: CountingProxy, home: Path, tmp_path: Path
) -> None:
    finished_batch(home, [run_info(0, joke_call())])
    spool = Spool(tmp_path / "spool")
    uri = theirs.uri.replace("//", "//ana:***@")
    told = synced(spool, replace(known_batches(spool, read_settings(), "b1")[-1], tracking_uri=uri))
    assert told == f"The password for {uri} is kept nowhere; set MLFLOW_TRACKING_URI to the whole address."
    assert not theirs.requests
