"""What promptflow's pool keeps its values in ends with the client, but not before the workers that outlive that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from batches import until

SCRIPT = """
import multiprocessing, os, signal, sys, time
from pf_mlflow.sources.promptflow.pool_processes import serve_values

def work(values):
    for number in range(8):  # for longer than a server looks once
        values.put(number)
        time.sleep(0.5)
    print("has put all", flush=True)
    values.get()
    time.sleep(60)

if __name__ == "__main__":
    manager = serve_values()
    values = manager.Queue()
    worker = multiprocessing.get_context("fork").Process(target=work, args=(values,))
    worker.start()
    print(manager._process.pid, worker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and sends SIGKILL")
def test_a_server_ends_after_its_client_and_the_last_worker(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    client = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True)
    assert client.stdout
    server, worker = (psutil.Process(int(pid)) for pid in client.stdout.readline().split())
    try:
        assert client.stdout.readline() == "has put all\n" and server.is_running()
        worker.kill()
        until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "the server ended", 30)
    finally:
        for one in (worker, server):
            if one.is_running():
                one.kill()
        client.communicate()
