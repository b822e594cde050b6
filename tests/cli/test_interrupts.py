"""Whatever asks a command to end, it ends as by Ctrl-C: told, and with what it has to say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import pytest
from batches import until
from machine import FLOWS, Machine
from servers import free_port

from pf_mlflow.sources.promptflow.run_record import run_record

HEARD = """
import os, signal, time
from pf_mlflow.cli import interrupts

signal.signal(signal.SIGHUP, {hang_up})
interrupts.heard_as_ctrl_c()
for number in {sent}:
    try:
        os.kill(os.getpid(), number)
        print("goes on")
    except KeyboardInterrupt:
        print("ends")
"""


@pytest.mark.parametrize(
    ("hang_up", "sent", "heard"),
    [
        ("signal.SIG_DFL", "[signal.SIGTERM]", ["ends"]),
        ("signal.SIG_DFL", "[signal.SIGHUP, signal.SIGHUP]", ["ends", "goes on"]),  # from the shell and the system
        ("signal.SIG_IGN", "[signal.SIGHUP, signal.SIGINT]", ["goes on", "ends"]),  # as by nohup
    ],
)
def test_a_request_to_end_is_heard_once(hang_up: str, sent: str, heard: list[str]) -> None:
    script = HEARD.format(hang_up=hang_up, sent=sent)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:-1] == heard, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_result_is_whole_though_its_delivery_is_not_waited_for(machine: Machine, number: signal.Signals) -> None:
    name = f"waited_{number.name}"
    data = machine.data(name, [{"topic": "tea"}])
    words = ["pf-mlflow", "run", "--flow", str(FLOWS / "bare"), "--data", str(data), "--name", name, "--json"]
    nowhere = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "PF_MLFLOW_GIVE_UP_AFTER": "30"}
    command = machine.start(*words, **nowhere)
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(command.communicate(timeout=120)))
    reader.start()
    home = machine.folder / "promptflow"
    until(lambda: (record := run_record(home, name)) and record.is_over, "promptflow ended the batch")
    while reader.is_alive():  # twice if the first came when promptflow was about to end
        command.send_signal(number)
        reader.join(5)
    told = json.loads(printed[0])
    assert command.returncode == 130, printed[1]
    assert (told["interrupted"], told["delivered"], told["next"]) == (True, False, f"pf-mlflow sync {name}")
