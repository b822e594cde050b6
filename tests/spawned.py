"""What tests have done by spawned processes, which must be able to import it by name."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from builders import batch

from pf_mlflow.spool.processes import client_process
from pf_mlflow.spool.store import Spool

spawn = multiprocessing.get_context("spawn")


def write_lines(folder: Path, writer: int, count: int) -> None:
    spool = Spool(folder)
    spool.add_batch(batch())
    for number in range(count):
        spool.open_line("uid", writer * count + number, 1.0)
        spool.complete_line("uid", writer * count + number, 1.0, "record")


def write_and_die(folder: Path) -> None:
    spool = Spool(folder)
    write_lines(folder, 0, 20)
    with spool._db.transaction() as db:
        db.execute("DELETE FROM line")
        os.kill(os.getpid(), signal.SIGKILL)


def put_client(queue: multiprocessing.Queue[int], deeper: bool) -> None:
    """Put the number of the process that is taken for the client, as this one sees it or a child of it."""
    if deeper:
        child = spawn.Process(target=put_client, args=(queue, False))
        child.start()
        child.join()
    else:
        queue.put(client_process().pid)
