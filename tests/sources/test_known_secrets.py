"""Secrets of promptflow's connections never leave a line's process, whatever they look like."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from machine import FLOWS, Machine, tracked

from pf_mlflow.sources.promptflow.known_secrets import known_secrets

HEX, WORDS = "0f8fad5b" * 4, "correct-horse-battery"


@pytest.fixture(scope="module")
def connected(new_machine: Callable[..., Machine]) -> Machine:
    """A machine with a connection that promptflow has encrypted."""
    machine = new_machine()
    connection = {"name": "search", "type": "custom", "configs": {"host": "h"}, "secrets": {"key": HEX, "words": WORDS}}
    path = machine.cwd / "connection.yaml"
    schema = "https://azuremlschemas.azureedge.net/promptflow/latest/CustomStrongTypeConnection.schema.json"
    path.write_text(json.dumps({"$schema": schema} | connection))
    machine.pf("connection", "create", "--file", str(path))
    return machine


def test_they_reach_neither_mlflow_nor_the_spool(connected: Machine) -> None:
    uri = f"sqlite:///{connected.folder / 'mlflow.db'}"
    data = connected.data("lines", [{"topic": f"say {HEX} and {WORDS}, please"}])
    words = ["run", "--flow", str(FLOWS / "bare"), "--data", str(data), "--column-mapping", "topic=${data.topic}"]
    done = connected.command("pf-mlflow", *words, "--name", "kept", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stdout + done.stderr
    child = tracked(uri, "kept").children[0]
    assert child.data.params["input_topic"] == "say **scrubbed** and **scrubbed**, please"
    files = [connected.folder / "mlflow.db", *(connected.folder / "spool").rglob("*")]
    assert not [path for path in files if path.is_file() and HEX.encode() in path.read_bytes()]


def test_without_the_key_of_the_connections_the_rest_is_masked(
    connected: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PF_HOME_DIRECTORY", connected.env["PF_HOME_DIRECTORY"])
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "no.such.Backend")
    monkeypatch.setenv("APP_SECRET", "hunter2-hunter2")
    with caplog.at_level(logging.WARNING):
        assert known_secrets().masked(f"hunter2-hunter2 {WORDS}").startswith("**scrubbed**")
