from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from builders import batch

import pf_mlflow
from pf_mlflow.spool import launch
from pf_mlflow.spool.launch import HUNG_AFTER, deliver_in_background, end_if_hung, is_held, lock_of, start_delivery
from pf_mlflow.spool.processes import is_alive, started_at
from pf_mlflow.spool.store import Spool

HOLD = """
import sys, time
from pathlib import Path
from pf_mlflow.spool.launch import lock_of
with lock_of(Path(sys.argv[1]), sys.argv[2]).acquire(timeout=0):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), name], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.add_batch(batch())
    return spool


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    started: list[str] = []
    monkeypatch.setattr(launch, "start_delivery", lambda folder, uid: started.append(uid))
    monkeypatch.setattr(launch, "_looked", {})
    return started


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    assert not is_held(tmp_path, "uid")
    with holder(tmp_path, "uid") as process:
        assert is_held(tmp_path, "uid") and not is_held(tmp_path, "other")
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait(10)
        assert not is_held(tmp_path, "uid")
        with lock_of(tmp_path, "uid").acquire(timeout=0):
            assert is_held(tmp_path, "uid")


def test_of_two_processes_one_gets_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path, "uid"):
        late = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path), "uid"], capture_output=True, text=True)
    assert late.returncode != 0 and "Timeout" in late.stderr and "held" not in late.stdout


def test_nobody_is_started_beside_one_who_delivers(spool: Spool, started: list[str]) -> None:
    with holder(spool.folder, "uid"):
        deliver_in_background(spool, "uid")
        launch._looked.clear()
        deliver_in_background(spool, "uid")
    assert started == []
    launch._looked.clear()
    deliver_in_background(spool, "uid")
    assert started == ["uid"]


def test_lines_in_quick_succession_look_once_a_second(
    spool: Spool, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    at = []
    for _ in range(300):
        before = len(started)
        deliver_in_background(spool, "uid")
        at += [round(now[0] - 1000.0)] * (len(started) - before)
        now[0] += 0.5
    # who is started ends at once: the waits grow
    assert at == [0, 5, 5 + 9, 5 + 9 + 17, 5 + 9 + 17 + 33, 5 + 9 + 17 + 33 + 61, *at[6:]]


def test_batches_do_not_wait_for_each_other(spool: Spool, started: list[str]) -> None:
    spool.add_batch(batch(uid="other"))
    for uid in ("uid", "other", "uid", "unknown"):
        deliver_in_background(spool, uid)
    assert started == ["uid", "other"]


@pytest.mark.parametrize("silent, ends", [(HUNG_AFTER - 10, False), (HUNG_AFTER + 10, True), (-1000.0, False)])
def test_a_process_that_gives_no_sign_of_life_is_killed(spool: Spool, silent: float, ends: bool) -> None:
    with holder(spool.folder, "uid") as process:
        begun = started_at(psutil.Process(process.pid))
        os.kill(process.pid, signal.SIGSTOP)
        end_if_hung(spool, "uid")  # it has never told anything
        spool.beat("uid", process.pid, begun, time.monotonic() - silent)
        end_if_hung(spool, "uid")
        assert is_alive(process.pid, begun) is not ends and is_held(spool.folder, "uid") is not ends


def test_a_process_that_waits_for_one_answer_is_not_taken_to_hang() -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT

    assert 2 * MLFLOW_HTTP_REQUEST_TIMEOUT.default <= HUNG_AFTER <= 600  # within the time it is tried again


def test_a_number_that_another_process_has_by_now_is_left_alone(spool: Spool) -> None:
    with holder(spool.folder, "uid") as process:
        spool.beat("uid", process.pid, started_at(psutil.Process(process.pid)) - 100, time.monotonic() - 2 * HUNG_AFTER)
        end_if_hung(spool, "uid")
        assert process.poll() is None


def test_the_process_that_is_started_is_detached_and_logs(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    (spool.folder / "delivery.log").write_bytes(b"x" * 1_000_001)
    (spool.folder / "yaml.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setenv("PF_TRACE_ENDPOINT", "http://127.0.0.1:1")
    start_delivery(spool.folder, "no such batch")
    with is_held_once(spool.folder) as log:
        assert log.stat().st_size < 1_000_000
    assert "Traceback" not in (spool.folder / "delivery.log").read_text()


@contextmanager
def is_held_once(folder: Path) -> Iterator[Path]:
    """Wait for the children of this process to end."""
    alive = (one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE)
    children = [one for one in alive if str(folder) in one.cmdline()]
    assert len(children) == 1 and os.getsid(children[0].pid) == children[0].pid
    environ = children[0].environ()
    assert not any(name.startswith(("PF_TRACE", "OTEL_")) for name in environ)
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert not alive and [one.returncode for one in gone] == [0]
    yield folder / "delivery.log"


WAITS = """
import sys, time
from pathlib import Path
def main(spool_dir, uid=""):
    while not Path(spool_dir, "gone").exists():
        time.sleep(0.05)
    from pf_mlflow.reports import tables
    Path(spool_dir, "told").write_text(tables.__file__)
"""
STARTS = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import pf_mlflow.spool.launch
if sys.argv[3:]:
    shutil.rmtree(sys.argv[3])
pf_mlflow.spool.launch.start_delivery(Path(sys.argv[1]), "uid")
"""


def flow_with_package(flow: Path, as_zip: bool) -> Path:
    """A flow that carries this package; return what has to be on the path."""
    package = flow / "package" / "pf_mlflow"
    shutil.copytree(Path(pf_mlflow.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "delivery" / "process.py").write_text(WAITS)
    return Path(shutil.make_archive(str(flow / "pf_mlflow"), "zip", package.parent)) if as_zip else package.parent


def start_from(path: Path, spool: Spool, *removed: Path) -> None:
    words = [str(spool.folder), str(path), *map(str, removed)]
    subprocess.run([sys.executable, "-c", STARTS, *words], cwd=spool.folder, check=True)


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
@pytest.mark.parametrize("place", ["", "packages"])
def test_no_package_is_kept_where_others_could_put_theirs(place: str, spool: Spool, tmp_path: Path) -> None:
    path = flow_with_package(tmp_path / "flow", as_zip=False)
    (spool.folder / "packages").mkdir(parents=True)
    (spool.folder / place).chmod(0o777)
    start_from(path, spool)
    assert delivered_by(spool) == str(path / "pf_mlflow" / "reports" / "tables.py")


def delivered_by(spool: Spool) -> str:
    (spool.folder / "gone").touch()
    until = time.monotonic() + 20
    while not (spool.folder / "told").exists() or not (spool.folder / "told").read_text():
        assert time.monotonic() < until, (spool.folder / "delivery.log").read_text()
        time.sleep(0.05)
    return (spool.folder / "told").read_text()


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("first", [True, False], ids=["copied", "copied by an earlier one"])
def test_delivery_outlives_a_temporary_copy_of_the_flow(
    first: bool, as_zip: bool, spool: Spool, tmp_path: Path
) -> None:
    path = flow_with_package(tmp_path / "flow", as_zip)
    if not first:
        start_from(path, spool)
    start_from(path, spool)
    shutil.rmtree(tmp_path / "flow")
    (copy,) = (spool.folder / "packages").iterdir()
    expected = copy / path.name if as_zip else copy
    assert delivered_by(spool) == str(expected / "pf_mlflow" / "reports" / "tables.py")


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_where_the_copy_went_before_delivery_starts_what_was_kept_of_its_version_serves(
    as_zip: bool, spool: Spool, tmp_path: Path
) -> None:
    path = flow_with_package(tmp_path / "flow", as_zip)
    start_from(path, spool)
    (own,) = (spool.folder / "packages").iterdir()
    other = shutil.copytree(own, own.parent / "0.0.1-of-another-version")
    os.utime(other / ("pf_mlflow.zip" if as_zip else "pf_mlflow"), (time.time() + 60,) * 2)
    start_from(path, spool, tmp_path / "flow")
    assert delivered_by(spool).startswith(str(own))


ENDS_AT_ONCE = """
import sys, time
from pathlib import Path
from threading import Thread
sys.path.insert(0, sys.argv[2])
from pf_mlflow.spool import launch
from pf_mlflow.spool.store import Spool
spool = Spool(Path(sys.argv[1]))
Thread(target=launch.deliver_in_background, args=(spool, "uid"), daemon=True).start()
while "uid" not in launch._looked:
    time.sleep(0.001)
launch.leave_to_delivery(spool, "uid")
"""


def test_a_process_that_ends_while_its_thread_starts_delivery_leaves_it_started(spool: Spool, tmp_path: Path) -> None:
    path = flow_with_package(tmp_path / "flow", as_zip=False)
    for number in range(1000):  # so that the copy takes longer than an end
        (path / "pf_mlflow" / f"m{number}.py").touch()
    words = [str(spool.folder), str(path)]
    subprocess.run([sys.executable, "-c", ENDS_AT_ONCE, *words], cwd=spool.folder, check=True)
    assert delivered_by(spool).startswith(str(spool.folder / "packages"))
