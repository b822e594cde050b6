"""The delivery process that starts before its batch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import pytest
from batches import until
from builders import batch, line_record
from servers import CountingProxy, free_port

from pf_mlflow.delivery.prestart import PrestartedDelivery
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.spool.store import Spool
from pf_mlflow.tracking.known_store import is_usable, note_revision
from pf_mlflow.tracking.writer import StoreWriter


@pytest.fixture
def uri(tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{shutil.copy(fresh_store, tmp_path)}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def deliveries(folder: Path) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if str(folder) in (one.info["cmdline"] or [])]


def delivering(folder: Path) -> list[psutil.Process]:
    return [one for one in deliveries(folder) if any("delivery.process" in word for word in one.info["cmdline"])]


def test_it_asks_then_delivers_what_it_is_given(tmp_path: Path, uri: str) -> None:
    delivery = PrestartedDelivery(uri, "jokes", tmp_path / "spool")
    assert delivery.warning() is None and delivery.is_waiting
    spool = Spool(tmp_path / "spool")
    spool.add_batch(batch(uid="early", tracking_uri=uri, experiment="jokes", client_pid=0))
    record = line_record(batch_uid="early", line_number=3)
    spool.complete_line("early", 3, record.start, record.to_json())
    delivery.deliver("early")
    assert not delivery.is_waiting
    until(lambda: (state := spool.state("early")) and state.closed, "it is delivered", 30)
    until(lambda: not deliveries(tmp_path / "spool"), "the process ends", 10)


def test_a_store_that_is_known_is_answered_for_and_delivered_to_like_any_other(tmp_path: Path, uri: str) -> None:
    StoreWriter(uri, "jokes", tmp_path / "spool").open_experiment()
    note_revision(uri, tmp_path / "spool")
    assert is_usable(uri, "jokes", tmp_path / "spool")
    test_it_asks_then_delivers_what_it_is_given(tmp_path, uri)


def test_it_ends_when_it_is_not_wanted(tmp_path: Path, uri: str) -> None:
    delivery = PrestartedDelivery(uri, "jokes", tmp_path / "spool")
    assert deliveries(tmp_path / "spool")
    delivery.dismiss()
    until(lambda: not deliveries(tmp_path / "spool"), "the process ends", 20)


def test_a_batch_to_score_that_somebody_deleted_is_refused(tmp_path: Path, uri: str) -> None:
    store = StoreWriter(uri, "jokes", tmp_path)
    store.open_experiment()
    base = batch(uid="base", tracking_uri=uri, experiment="jokes")
    store.delete(parent := store.create_parent(base, "b", 1.0))
    delivery = PrestartedDelivery(uri, "jokes", tmp_path / "spool", "base")
    with pytest.raises(
        TrackingRefused, match=f"deleted the batch to score in MLflow; `mlflow runs restore --run-id {parent}`"
    ):
        delivery.warning()


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_batch_to_score_that_mlflow_lost_is_refused(tmp_path: Path, uri: str, is_closed: bool) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add_batch(batch(uid="base", name="night", tracking_uri=uri))
    if is_closed:  # else its runs are to come
        spool.close_batch("base", "{}")
    delivery = PrestartedDelivery(uri, "jokes", tmp_path / "spool", "base")
    if is_closed:
        says = "MLflow has nothing of the batch 'night' any more; `pf-mlflow sync night` brings it in anew."
        with pytest.raises(TrackingRefused, match=f"^{says}$"):
            delivery.warning()
    else:
        assert delivery.warning() is None
        delivery.dismiss()


ORPHAN = """
import os, sys, time
from pathlib import Path
from pf_mlflow.delivery.prestart import PrestartedDelivery
PrestartedDelivery(sys.argv[1], "jokes", Path(sys.argv[2]))
if sys.argv[3] == "forks" and os.fork() == 0:  # as promptflow's pool does: the child holds what its parent had open
    time.sleep(60)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("starter", ["alone", "forks"])
def test_it_ends_when_its_starter_is_killed(tmp_path: Path, uri: str, starter: str) -> None:
    words = [sys.executable, "-c", ORPHAN, uri, str(tmp_path / "spool"), starter]
    done = subprocess.Popen(words, env=dict(os.environ), start_new_session=True)
    try:
        assert done.wait(60) == -signal.SIGKILL
        until(lambda: not delivering(tmp_path / "spool"), "the process ends", 30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)


def test_a_refusal_is_raised(tmp_path: Path, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.answer = 403
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    delivery = PrestartedDelivery(proxy.uri, "jokes", tmp_path / "spool")
    with pytest.raises(TrackingRefused, match="403"):
        delivery.warning()
    assert not delivery.is_waiting


@pytest.mark.parametrize(("status", "passes"), [(301, False), (308, True)])
def test_an_address_that_has_moved_is_refused_unless_requests_stay_what_they_are(
    tmp_path: Path, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch, status: int, passes: bool
) -> None:
    proxy.redirects = status, "/"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    delivery = PrestartedDelivery(proxy.uri, "Default", tmp_path / "spool")
    with nullcontext() if passes else pytest.raises(TrackingRefused, match="answered 301, moved.* https://"):
        assert delivery.warning() is None
    delivery.dismiss()


def test_a_server_that_is_down_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://ana:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    warning = PrestartedDelivery(uri, "jokes", tmp_path / "spool").warning()
    assert warning and "cannot be reached" in warning and "secret" not in warning


def test_a_process_that_was_killed_is_a_warning(tmp_path: Path, uri: str) -> None:
    delivery = PrestartedDelivery(uri, "jokes", tmp_path / "spool")
    delivery._process.kill()
    warning = delivery.warning()
    assert warning and "delivery.log" in warning and not delivery.is_waiting
