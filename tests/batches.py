"""A batch that runs while something is done to it or to MLflow, and what must hold of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS, FakeLlm
from machine import ROOT, Machine, Tracked, runs_of, tracked
from mlflow import MlflowClient
from mlflow.entities import ViewType


def until(condition: Callable[[], Any], what: str, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"in {patience:.0f} s it did not happen that {what}"
        time.sleep(0.3)


def gated(gate: str, lines: int = 24, free: int = 8) -> list[str]:
    """Topics of which the first ones are executed and the others wait at the gate."""
    return [f"[[latency=0.5]]{f'[[gate={gate}]]' if line >= free else ''} {gate} {line}" for line in range(lines)]


@dataclass
class Batch:
    """A batch that a command of its own executes, `pf run create` or `pf-mlflow run`, and where the tests read its runs."""

    machine: Machine
    llm: FakeLlm
    name: str
    topics: list[str]
    uri: str
    env: dict[str, str]
    client: subprocess.Popen[str]
    log: Path

    @classmethod
    def start(
        cls,
        machine: Machine,
        llm: FakeLlm,
        name: str,
        topics: list[str],
        uri: str,
        flow: Path = ROOT,
        command: Sequence[str] = ("pf", "run", "create"),
        **env: str,
    ) -> Batch:
        data = machine.data(name, [{"topic": topic} for topic in topics])
        words = [*command, "--flow", str(flow), "--data", str(data), "--name", name]
        words += ["--column-mapping", "topic=${data.topic}"]
        log = machine.folder / f"{name}.log"
        client = machine.start(*words, log=log, **{"MLFLOW_TRACKING_URI": uri, **env})
        return cls(machine, llm, name, topics, uri, env, client, log)

    # How far it is

    def asked(self) -> set[int]:
        """The lines that the model was asked for: those that have started."""
        return {number for number, topic in enumerate(self.topics) if topic in self.llm.asked}

    def answered(self) -> set[int]:
        return {number for number, topic in enumerate(self.topics) if topic in self.llm.answered}

    def await_middle(self, children: int = 4, in_work: int = 4) -> None:
        """Wait until MLflow shows some lines, and as many as there are workers wait at the gate."""
        until(lambda: len(self.asked() - self.answered()) >= in_work, "lines wait at the gate")
        until(lambda: self._finished() >= children, f"MLflow shows {children} finished lines")

    def release(self) -> None:
        """Open the gate at which lines wait."""
        self.llm.open_gate(self.name)

    def _finished(self) -> int:
        return sum(run.info.status == "FINISHED" for run in runs_of(self.uri, self.name))

    def await_answers(self, count: int) -> None:
        until(lambda: len(self.answered()) >= count, f"the model answered {count} lines")

    def end(self, patience: float = 150.0) -> None:
        """Wait until `pf` has ended, as it does on a good day."""
        assert self.client.wait(patience) == 0, self.log.read_text()
        assert '"status": "Completed"' in self.log.read_text()

    def told(self) -> str:
        """What the user was told at the terminal about tracking."""
        return "".join(line for line in self.log.read_text().splitlines(True) if line.startswith("pf-mlflow:"))

    def outputs(self) -> set[int]:
        """The lines that promptflow has an output of."""
        return {output["line_number"] for output in self.machine.outputs(self.name)}

    # Its processes

    def manager(self) -> psutil.Process:
        """promptflow's process manager, whose children the workers are."""
        children = psutil.Process(self.client.pid).children()
        return next(child for child in children if any("multiprocessing.spawn" in word for word in child.cmdline()))

    def workers(self) -> list[psutil.Process]:
        deliveries = self.deliveries()
        return [worker for worker in self.manager().children() if worker not in deliveries]

    def deliveries(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if self.env["PF_MLFLOW_SPOOL_DIR"] in words and any(
                    "pf_mlflow.delivery.process" in word for word in words
                ):
                    found.append(process)
        return found

    def await_no_delivery(self, patience: float = 60.0) -> None:
        until(lambda: not self.deliveries(), "the delivery process ended", patience)

    def stop(self) -> None:
        """Kill whatever is left of it: after a kill of `pf` promptflow's workers would wait for ever."""
        self.release()
        with suppress(ProcessLookupError):
            os.killpg(self.client.pid, signal.SIGKILL)
        self.client.wait(20)
        for process in self.deliveries():
            with suppress(psutil.Error):
                process.kill()

    # What `pf-mlflow sync` does about it

    def sync(self, **env: str) -> dict[str, Any]:
        spool = {"PF_MLFLOW_SPOOL_DIR": self.env["PF_MLFLOW_SPOOL_DIR"]}
        done = self.machine.command("pf-mlflow", "sync", self.name, "--json", **{**spool, **env})
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)["batches"][0]
        return told

    def removed(self) -> int:
        """How many of its runs were made once too often and then deleted."""
        client = MlflowClient(self.uri)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        where = f"tags.`promptflow.run_id` = '{self.name}'"
        return len(client.search_runs(ids, where, ViewType.DELETED_ONLY))

    def shown(self) -> dict[str, Any]:
        """All that MLflow shows of it."""
        return {run.info.run_id: run.to_dictionary() for run in runs_of(self.uri, self.name)}


def check(batch: Batch, failed: Collection[int] = (), patience: float = 45.0) -> Tracked:
    """The batch ran to its end, no line failed but those that had to, and MLflow shows each line once, as it was."""
    assert batch.outputs() == set(range(len(batch.topics))) - set(failed), batch.log.read_text()
    told = exact(batch, set(range(len(batch.topics))), patience)
    assert {number for number, child in told.children.items() if child.info.status == "FAILED"} == set(failed)
    assert told.parent.info.status == "FINISHED"
    return told


def check_killed(batch: Batch, patience: float = 45.0) -> Tracked:
    """The batch did not end by itself, and MLflow shows each line once that had been started."""
    told = exact(batch, batch.asked(), patience)
    assert told.parent.info.status in ("KILLED", "FAILED")
    return told


def exact(batch: Batch, lines: set[int], patience: float = 45.0) -> Tracked:
    """MLflow shows these lines, each once and as it was, under one parent that is over and has counted them."""
    told = tracked(batch.uri, batch.name, patience)
    assert set(told.children) == lines
    for run in (told.parent, *told.children.values()):
        assert run.info.end_time >= run.info.start_time, run.info
    for number, child in told.children.items():
        topic, data = batch.topics[number], child.data
        assert data.params["input_topic"] == topic
        if child.info.status == "FINISHED":
            assert data.params["output"] == f"a joke about {topic}"
            assert "[[usage" in topic or data.metrics["total_tokens"] == PROMPT_TOKENS + COMPLETION_TOKENS
        else:
            assert child.info.status == "FAILED" and data.tags["promptflow.error_type"], number
    completed = sum(child.info.status == "FINISHED" for child in told.children.values())
    counted = [told.parent.data.metrics[f"lines_{kind}"] for kind in ("total", "completed", "failed")]
    assert counted == [len(lines), completed, len(lines) - completed]
    return told
