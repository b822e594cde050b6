"""`pf-mlflow run` behaves: interrupted, resumed, limited, out of time, called from a script or a notebook."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from batches import until
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS, FakeLlm
from machine import FLOWS, ROOT, Machine, runs_of, tracked

from pf_mlflow.cli.live import progress_line
from pf_mlflow.running.progress import Counts
from pf_mlflow.spool.processes import end_process, is_alive, started_at

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
MAPPING = ("--column-mapping", "topic=${data.topic}")
BARE, CHATTY = FLOWS / "bare", FLOWS / "chatty"


def words(machine: Machine, name: str, topics: list[str], *more: str, flow: Path = BARE) -> list[str]:
    data = machine.data(name, [{"topic": topic} for topic in topics])
    command = ["pf-mlflow", "run", "--flow", str(flow), "--data", str(data), *MAPPING, "--name", name]
    return [*command, *more]


def store(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'mlflow.db'}"


class Interrupted:
    """A batch of which eight lines are done, eight wait at a gate, and eight wait for their turn."""

    def __init__(self, machine: Machine, llm: FakeLlm, name: str, *more: str, flow: Path = BARE) -> None:
        self.machine, self.llm, self.name = machine, llm, name
        self.topics = [f"{'' if n < 8 else f'[[gate={name}]]'} {name} {n}" for n in range(24)]
        command = words(machine, name, self.topics, "--concurrency", "8", *more, flow=flow)
        self.log = machine.folder / f"{name}.log"
        self.process = machine.start(*command, log=self.log)
        until(lambda: len(self._asked() - self._answered()) == 8, "eight lines wait at the gate")

    def _asked(self) -> set[int]:
        return {n for n, topic in enumerate(self.topics) if topic.strip() in self.llm.asked}

    def _answered(self) -> set[int]:
        return {n for n, topic in enumerate(self.topics) if topic.strip() in self.llm.answered}

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def end(self) -> str:
        assert self.process.wait(60) == 130
        return self.log.read_text()


@pytest.fixture(scope="module")
def stopped(machine: Machine, fake_llm: FakeLlm) -> str:
    """What a batch printed that was interrupted once."""
    batch = Interrupted(machine, fake_llm, "stopped")
    batch.interrupt()
    until(lambda: "stopping" in batch.log.read_text(), "it says that it stops")
    fake_llm.open_gate("stopped")
    return batch.end()


def test_ctrl_c_lets_running_lines_end_and_takes_no_more(machine: Machine, stopped: str) -> None:
    batch = tracked(store(machine), "stopped")
    assert sorted(batch.children) == list(range(16))
    assert {run.info.status for run in batch.children.values()} == {"FINISHED"}
    assert batch.parent.info.status == "KILLED" and batch.parent.data.metrics["lines_completed"] == 16
    assert json.loads(machine.pf("run", "show", "--name", "stopped").stdout)["status"] == "Canceled"
    assert re.search(r"lines completed / failed\W+16 / 0", stopped) and "run --resume-from stopped" in stopped
    assert "Traceback" not in stopped


def test_it_is_resumed(machine: Machine, fake_llm: FakeLlm, stopped: str) -> None:
    asked = fake_llm.requests[200]
    done = machine.command("pf-mlflow", "run", "--resume-from", "stopped", "--name", "stopped_resumed")
    assert done.returncode == 0, done.stderr
    assert fake_llm.requests[200] - asked == 24 - 16
    batch = tracked(store(machine), "stopped_resumed")
    assert sorted(batch.children) == list(range(24)) and batch.parent.info.status == "FINISHED"
    copied = {number for number, run in batch.children.items() if "promptflow.copied_from" in run.data.tags}
    assert copied == set(range(16))
    assert [one["line_number"] for one in machine.outputs("stopped_resumed")] == list(range(24))


@pytest.mark.slow
def test_what_was_killed_is_gone_on_with_and_scored(machine: Machine, fake_llm: FakeLlm) -> None:
    batch = Interrupted(machine, fake_llm, "killed")
    done = machine.command("pf-mlflow", "evaluate", "killed")
    assert done.returncode == 1 and "still runs" in done.stderr
    batch.interrupt(signal.SIGKILL)
    assert batch.process.wait(60) == -signal.SIGKILL
    fake_llm.open_gate("killed")
    done = machine.command("pf-mlflow", "evaluate", "killed", "--metrics", "answer_length", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 3 and told["scores"]["lines_evaluated"] == 8, done.stderr  # eight had begun
    asked = fake_llm.requests[200]
    done = machine.command("pf-mlflow", "run", "--resume-from", "killed", "--name", "killed_on")
    assert done.returncode == 0 and fake_llm.requests[200] - asked == 24 - 8, done.stderr
    assert sorted(tracked(store(machine), "killed_on").children) == list(range(24))
    assert tracked(store(machine), "killed").parent.info.status == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flow", "shown"),
    [(ROOT, 16), (BARE, 8)],  # whose workers end their lines first, as nobody else could tell of them; or at once
)
def test_killed_run_by_processes(machine: Machine, fake_llm: FakeLlm, flow: Path, shown: int) -> None:
    name = f"killed_pool_{shown}"
    batch = Interrupted(machine, fake_llm, name, "--engine", "processes", flow=flow)
    tree = psutil.Process(batch.process.pid).children(recursive=True)
    left = [(one.pid, started_at(one)) for one in tree]
    batch.interrupt(signal.SIGKILL)
    assert batch.process.wait(60) == -signal.SIGKILL
    time.sleep(6)  # in which all have noticed
    fake_llm.open_gate(name)
    try:
        until(lambda: not any(is_alive(*one) for one in left), "the pool and the delivery process ended", 60)
    finally:
        for pid, started in left:
            end_process(pid, started)
    batch_shown = tracked(store(machine), name)
    assert batch_shown.parent.info.status == "KILLED" and sorted(batch_shown.children) == list(range(shown))
    assert {run.info.status for run in batch_shown.children.values()} == {"FINISHED"}


@pytest.mark.slow
def test_ctrl_c_of_a_run_by_processes_lets_running_lines_end(machine: Machine, fake_llm: FakeLlm) -> None:
    batch = Interrupted(machine, fake_llm, "stopped_pool", "--engine", "processes", flow=BARE)
    os.killpg(batch.process.pid, signal.SIGINT)  # as a terminal does: all its processes hear of it
    until(lambda: "stopping" in batch.log.read_text(), "it says that it stops")
    fake_llm.open_gate("stopped_pool")
    said = batch.end()
    assert re.search(r"lines completed / failed\W+16 / 0", said) and "run --resume-from stopped_pool" in said
    shown = tracked(store(machine), "stopped_pool")
    assert sorted(shown.children) == list(range(16)) and shown.parent.info.status == "KILLED"
    assert {run.info.status for run in shown.children.values()} == {"FINISHED"}
    asked = fake_llm.requests[200]
    assert resumed(machine, "stopped_pool")[0] == 0 and fake_llm.requests[200] - asked == 24 - 16


@pytest.mark.slow
def test_a_second_ctrl_c_of_a_run_by_processes_does_not_wait(machine: Machine, fake_llm: FakeLlm) -> None:
    batch = Interrupted(machine, fake_llm, "hurried_pool", "--engine", "processes", flow=BARE)
    batch.interrupt()
    until(lambda: "stopping" in batch.log.read_text(), "it says that it stops")
    batch.interrupt()
    assert "Traceback" not in batch.end()
    fake_llm.open_gate("hurried_pool")
    shown = tracked(store(machine), "hurried_pool")
    finished = {number for number, run in shown.children.items() if run.info.status == "FINISHED"}
    assert finished == set(range(8)) and shown.parent.info.status == "KILLED"
    errors = {run.data.tags["promptflow.error_type"] for number, run in shown.children.items() if number >= 8}
    assert errors == {"LineInterrupted"}


@pytest.mark.slow
def test_a_closed_terminal_stops_it_as_a_request_to_end_does(machine: Machine, fake_llm: FakeLlm) -> None:
    batch = Interrupted(machine, fake_llm, "hung_up")
    batch.interrupt(signal.SIGHUP)
    batch.interrupt(signal.SIGHUP)  # from the system, and from the shell
    until(lambda: "stopping" in batch.log.read_text(), "it says that it stops")
    fake_llm.open_gate("hung_up")
    batch.end()
    assert sorted(tracked(store(machine), "hung_up").children) == list(range(16))


def test_a_second_ctrl_c_does_not_wait(machine: Machine, fake_llm: FakeLlm) -> None:
    batch = Interrupted(machine, fake_llm, "hurried")
    batch.interrupt()
    until(lambda: "stopping" in batch.log.read_text(), "it says that it stops")
    started = time.monotonic()
    batch.interrupt()
    said = batch.end()
    assert time.monotonic() - started < 20 and "Traceback" not in said
    fake_llm.open_gate("hurried")
    shown = tracked(store(machine), "hurried")
    finished = {number for number, run in shown.children.items() if run.info.status == "FINISHED"}
    assert finished == set(range(8)) and shown.parent.info.status == "KILLED"
    assert {run.info.status for number, run in shown.children.items() if number >= 8} == {"FAILED"}


def test_a_line_out_of_time_fails_alone_and_its_thread_keeps_nobody(machine: Machine) -> None:
    topics = ["[[home=/nowhere]] tea", *(f"tea {number}" for number in range(5)), "[[hang=90]] coffee"]
    lines = [{"topic": topic, "number": n, "more": {}} for n, topic in enumerate(topics)]
    data = machine.data("hanging", lines)
    command = ["pf-mlflow", "run", "--flow", str(CHATTY), "--data", str(data), "--name", "hanging"]
    started = time.monotonic()
    done = machine.command(*command, "--line-timeout", "3", "--concurrency", "2")
    assert done.returncode == 3 and time.monotonic() - started < 60, done.stderr
    batch = tracked(store(machine), "hanging")
    assert [run.info.status for _, run in sorted(batch.children.items())] == 6 * ["FINISHED"] + ["FAILED"]
    late = batch.children[6].data
    assert (
        late.tags["promptflow.error_type"] == "LineExecutionTimeoutError"
        and "3 seconds" in late.tags["promptflow.error"]
    )
    assert late.params["input_topic"] == topics[6] and late.metrics["total_tokens"] == TOKENS
    assert 3 <= late.metrics["line_duration"] < 10
    kept = machine.folder / "promptflow/.runs/hanging/flow_artifacts/000000006_000000006.jsonl"
    assert "3 seconds" in json.loads(kept.read_text())["run_info"]["error"]["message"]
    assert "LineExecutionTimeoutError" in done.stdout


def test_a_limit_executes_the_first_lines_and_the_rest_can_follow(machine: Machine) -> None:
    done = machine.command(*words(machine, "limited", [f"milk {n}" for n in range(9)], "--limit", "4"))
    assert done.returncode == 0, done.stderr
    assert sorted(tracked(store(machine), "limited").children) == [0, 1, 2, 3]
    assert machine.command("pf-mlflow", "run", "--resume-from", "limited", "--name", "rest").returncode == 0
    assert sorted(tracked(store(machine), "rest").children) == list(range(9))


def resumed(machine: Machine, base: str, *more: str) -> tuple[int, str]:
    done = machine.command("pf-mlflow", "run", "--resume-from", base, "--name", f"{base}_on", *more)
    return done.returncode, done.stderr


def test_lines_of_other_rows_or_another_flow_are_not_taken_over_unasked(
    machine: Machine, fake_llm: FakeLlm, tmp_path: Path
) -> None:
    flow, topics = shutil.copytree(BARE, tmp_path / "bare"), [f"honey {number}" for number in range(5)]
    assert machine.command(*words(machine, "mixed", topics, "--limit", "3", flow=flow)).returncode == 0
    asked = fake_llm.requests.total()
    machine.data("mixed", [{"topic": topic} for topic in [topics[1], topics[0], *topics[2:]]])
    code, told = resumed(machine, "mixed")
    assert code == 1 and "2 completed lines of 'mixed' had other rows: 0-1." in told, told
    assert '\'topic\' is "honey 1" and was "honey 0"' in told and "--resume-changed" in told
    machine.data("mixed", [{"topic": topic} for topic in topics])
    (flow / "shout.py").write_text((flow / "shout.py").read_text() + "# changed\n")
    code, told = resumed(machine, "mixed")
    assert code == 1 and "shout.py changed since" in told and "--resume-changed" in told
    assert fake_llm.requests.total() == asked
    assert resumed(machine, "mixed", "--resume-changed")[0] == 0
    batch = tracked(store(machine), "mixed_on")
    earlier = tracked(store(machine), "mixed").parent.data.params["flow_hash"]
    assert batch.parent.data.tags["promptflow.copied_from"] == f"mixed: lines 0-2, flow_hash {earlier}"
    assert batch.parent.data.params["flow_hash"] != earlier and sorted(batch.children) == list(range(5))


def test_the_outputs_of_a_batch_as_inputs_of_the_next(machine: Machine) -> None:
    assert machine.command(*words(machine, "base", ["rain", "[[status=400]]", "snow"])).returncode == 3
    mapping = ["--column-mapping", "topic=${run.outputs.answer}"]
    done = machine.command("pf-mlflow", "run", "--flow", str(BARE), "--run", "base", *mapping, "--name", "next")
    assert done.returncode == 0, done.stderr
    children = tracked(store(machine), "next").children
    assert {n: run.data.params["input_topic"] for n, run in children.items()} == {
        0: "A JOKE ABOUT RAIN",
        2: "A JOKE ABOUT SNOW",
    }
    mapping = ["--column-mapping", "answer=${run.outputs.answer}"]
    done = machine.command(
        "pf-mlflow", "run", "--flow", str(FLOWS / "score"), "--run", "base", *mapping, "--name", "scored", "--json"
    )
    assert done.returncode == 0 and json.loads(done.stdout)["parent_run_id"] is None, done.stderr
    lengths = [len("A JOKE ABOUT RAIN"), len("A JOKE ABOUT SNOW")]
    shown = json.loads(machine.pf("run", "show-metrics", "--name", "scored").stdout)
    assert shown == {"length": sum(lengths) / 2}


def test_promptflows_own_commands_take_it_as_one_of_theirs(machine: Machine, stopped: str) -> None:
    assert machine.command(*words(machine, "plain", ["sun", "fog"])).returncode == 0
    listed = json.loads(machine.pf("run", "list").stdout)
    assert {"plain", "stopped"} <= {one["name"] for one in listed}
    assert "A JOKE ABOUT FOG" in machine.pf("run", "show-details", "--name", "plain").stdout
    page = machine.cwd / "plain.html"
    machine.pf("run", "visualize", "--names", "plain", "--html-path", str(page))
    assert "plain" in page.read_text("utf-8")
    machine.pf("run", "create", "--resume-from", "plain", "--name", "plain_again")
    assert len(machine.outputs("plain_again")) == 2


def test_json_is_all_that_stands_on_stdout(machine: Machine) -> None:
    done = machine.command(*words(machine, "as_json", ["tea", "[[status=400]]"], "--json"))
    told = json.loads(done.stdout)
    assert done.returncode == 3 and (told["batch"], told["status"]) == ("as_json", "Completed")
    assert (told["lines_total"], told["lines_completed"], told["lines_failed"]) == (2, 1, 1)
    assert told["tokens"]["total_tokens"] == TOKENS and told["parent_run_id"] and not told["interrupted"]
    assert "BadRequestError" in told["failed"][0]["error"]


def test_failures_and_what_to_do_next_are_told(machine: Machine) -> None:
    done = machine.command(*words(machine, "failing", ["tea", "[[status=400]] filtered"]))
    assert done.returncode == 3
    assert "BadRequestError" in done.stdout and "show failing --failed" in done.stdout
    assert "run --resume-from failing" in done.stdout
    assert "Submitting run" not in done.stdout


def test_with_tracking_off_nothing_is_logged(machine: Machine) -> None:
    done = machine.command(*words(machine, "untracked", ["tea"]), PF_MLFLOW_ENABLED="false")
    assert done.returncode == 0 and "nowhere" in done.stdout and not runs_of(store(machine), "untracked")


NOTEBOOK = """
import asyncio
import pf_mlflow

async def cell():  # those of a notebook run inside an event loop
    outcome = pf_mlflow.run({flow!r}, {data!r}, column_mapping={{"topic": "${{data.topic}}"}}, name="notebook")
    print(outcome.status, outcome.summary.lines_completed, outcome.parent_run_id)
    scored = pf_mlflow.evaluate("notebook", metrics="answer_length")
    shown = pf_mlflow.show("notebook", worst="answer_length")
    print(scored.status, shown.summary.scores["lines_evaluated"], [one.state for one in pf_mlflow.sync("notebook")])

asyncio.run(cell())
"""


def test_from_a_notebook(machine: Machine, tmp_path: Path) -> None:
    data = machine.data("notebook", [{"topic": "tea"}, {"topic": "milk"}])
    (tmp_path / "script.py").write_text(NOTEBOOK.format(flow=str(BARE), data=str(data)))
    done = machine.command("python", str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr
    parent = tracked(store(machine), "notebook").parent.info.run_id
    assert f"Completed 2 {parent}" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "Completed 2.0 ['in line']"


TWICE = """
import os
import pf_mlflow
for name in ("first", "second"):
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{{os.getcwd()}}/{{name}}.db"
    before = dict(os.environ)
    pf_mlflow.run({flow!r}, {data!r}, column_mapping={{"topic": "${{data.topic}}"}}, name=name)
    assert os.environ == before
"""


def test_two_batches_of_a_script_without_a_guard_go_where_each_was_told(machine: Machine, tmp_path: Path) -> None:
    data = machine.data("twice", [{"topic": "tea"}])
    (tmp_path / "script.py").write_text(TWICE.format(flow=str(BARE), data=str(data)))
    done = machine.command("python", str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr
    for name in ("first", "second"):
        assert sorted(tracked(f"sqlite:///{machine.cwd}/{name}.db", name).children) == [0]


AT_ONCE = """
import asyncio, os
import pf_mlflow

def batch(name):
    return pf_mlflow.run({flow!r}, "at_once.jsonl", column_mapping={{"topic": "${{data.topic}}"}}, name=name)

async def main():
    return await asyncio.gather(*(asyncio.to_thread(batch, name) for name in ("at_once_1", "at_once_2")))

here, before = os.getcwd(), dict(os.environ)
print([(result.status, result.lines_failed) for result in asyncio.run(main())])
assert (os.getcwd(), dict(os.environ)) == (here, before)
"""


def test_two_batches_at_once_in_one_process_take_turns(machine: Machine, tmp_path: Path) -> None:
    machine.data("at_once", [{"topic": f"tea {number}"} for number in range(20)])
    (tmp_path / "script.py").write_text(AT_ONCE.format(flow=str(BARE)))
    done = machine.command("python", str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str([("Completed", 0)] * 2) and "this one waits" in done.stderr
    for name in ("at_once_1", "at_once_2"):
        batch = tracked(store(machine), name)
        assert batch.column("params", "input_topic") == [f"tea {number}" for number in range(20)]


def test_a_column_that_a_csv_file_lacks_is_told_before_a_batch_is_made(machine: Machine) -> None:
    (machine.cwd / "topics.csv").write_text("topic\ntea\n")
    mapping = ["--column-mapping", "topic=${data.topik}", "--name", "whole"]
    done = machine.command("pf-mlflow", "run", "--flow", str(BARE), "--data", "topics.csv", *mapping)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: topics.csv has no column 'topik' (mapped to 'topic'); its columns are topic.\n"


def test_what_promptflow_cannot_finish_is_told_whole_and_can_be_scored(machine: Machine, tmp_path: Path) -> None:
    flow = shutil.copytree(BARE, tmp_path / "bare")
    (flow / "notes").symlink_to("nowhere")  # of which promptflow can make no copy at the end
    done = machine.command(*words(machine, "unfinished", ["tea", "milk"], "--json", flow=flow))
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"], told["lines_completed"]) == (1, "Failed", 2), done.stderr
    assert "promptflow could not finish the batch" in told["failure"] and "notes" in told["failure"]
    assert tracked(store(machine), "unfinished").parent.info.status == "FAILED"


def test_a_data_file_that_the_system_does_not_take_is_not_the_spools_fault(machine: Machine) -> None:
    done = machine.command("pf-mlflow", "run", "--flow", str(BARE), "--data", f"{'x' * 300}.jsonl")
    assert done.returncode == 1 and done.stderr.count("Error:") == 1 and "Traceback" not in done.stderr
    assert "x.jsonl cannot be used: File name too long" in done.stderr and "spool" not in done.stderr


@pytest.mark.parametrize(
    "words_of_it",
    [
        ["--resume-from", "x", "--data", "y"],
        ["--resume-from", "x", "--column-mapping", "a=b"],
        ["--data", "x", "--limit", "1", "--engine", "processes"],
        ["--data", "x", "--limit", "0"],
        ["--data", "x", "--concurrency", "many"],
        ["--data", "x", "--line-timeout", "-1"],
        ["--data", "x", "--init", "mark"],
    ],
)
def test_a_wrong_command_line(machine: Machine, words_of_it: list[str]) -> None:
    assert machine.command("pf-mlflow", "run", *words_of_it).returncode == 2


@pytest.mark.parametrize(
    ("words_of_it", "says"),
    [
        (["--resume-from", "nobody"], "There is no batch 'nobody'"),
        (["--flow", str(BARE), "--run", "nobody"], "There is no batch 'nobody'"),
        (["--flow", "gone.prompty", "--data", "x"], "There is no prompty at 'gone.prompty'"),
        (["--flow", str(ROOT / "README.md"), "--data", "x"], "README.md"),
    ],
)
def test_what_is_not_there(machine: Machine, words_of_it: list[str], says: str) -> None:
    done = machine.command("pf-mlflow", "run", *words_of_it)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("Error:") == 1


def test_a_marked_file_a_column_with_a_dot_and_an_entry_in_flow_dag_yaml(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "flow.dag.yaml").write_text("entry: main:main\ninputs: {topic: {type: string}}\n")
    (tmp_path / "main.py").write_text("def main(topic: str):\n    return {'joke': f'a joke about {topic}'}\n")
    (tmp_path / "marked.jsonl").write_bytes(
        b"\xef\xbb\xbf" + '{"user.topic": "温泉"}\n{"user.topic": "tea"}\n'.encode()
    )
    command = ["pf-mlflow", "run", "--flow", ".", "--data", "marked.jsonl", "--name", "marked"]
    done = machine.command(*command, "--column-mapping", "topic=${data.user.topic}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    batch = tracked(f"sqlite:///{tmp_path}/mlflow.db", "marked")
    assert batch.column("params", "input_topic") == ["温泉", "tea"]
    assert batch.column("params", "output") == ["a joke about 温泉", "a joke about tea"]
    words = ["--run", "marked", "--column-mapping", "topic=${run.outputs.joque}"]
    done = machine.command("pf-mlflow", "run", "--flow", str(tmp_path), *words)
    assert done.returncode == 1 and "no output 'joque' (mapped to 'topic'); its outputs are joke." in done.stderr


def counts(**values: Any) -> Counts:
    whole = {"total": 1000, "done": 0, "failed": 0, "delivered": 0, "tokens": 0, "elapsed": 0.0, "p50": None}
    return Counts(**{**whole, "p90": None, "is_stopping": False, **values})


@pytest.mark.parametrize(
    ("how", "line"),
    [
        (counts(), "0/1,000 lines"),
        (
            counts(done=250, failed=2, delivered=240, tokens=4500, elapsed=10.0, p50=0.51, p90=1.234),
            "250/1,000 lines · 2 failed · 25.0 lines/s · 4,500 tokens · p50 510 ms, p90 1.23 s · 240 in MLflow · 0:00:30 left",
        ),
        (
            counts(done=8, elapsed=2.0, p50=0.1, p90=0.1, is_stopping=True),
            "8/1,000 lines · 4.0 lines/s · p50 100 ms, p90 100 ms · 0 in MLflow · "
            "stopping: waiting for the lines that run (Ctrl-C: at once)",
        ),
        (
            counts(total=8, done=8, delivered=8, elapsed=2.0, p50=0.1, p90=0.1),
            "8/8 lines · p50 100 ms, p90 100 ms · 8 in MLflow · finishing",
        ),
        (
            counts(total=800, done=800, delivered=500, elapsed=9.0, p50=0.1, p90=0.1, delivery_left=2.6),
            "800/800 lines · p50 100 ms, p90 100 ms · 500 in MLflow · 300 on their way, 0:00:03 left",
        ),
        (
            counts(total=8, done=8, failed=8, delivered=3, elapsed=2.0),
            "8/8 lines · 8 failed · 3 in MLflow · 5 on their way",
        ),
        (
            counts(total=8, done=8, delivered=None, elapsed=2.0, p50=0.1, p90=0.1),
            "8/8 lines · p50 100 ms, p90 100 ms · finishing",
        ),
    ],
)
def test_how_a_batch_stands_in_one_line(how: Counts, line: str) -> None:
    assert progress_line(how) == line
