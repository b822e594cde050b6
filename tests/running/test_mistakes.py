"""A mistake is told in one sentence with its remedy, by the right exit code, before a model is asked where that can be.

Each is made for real, and what it prints is held against its row of docs/mistakes.md. `REWRITE_PAGES=1 pytest -m ""` on
this file writes the rows anew.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from batches import until
from fake_llm import FakeLlm
from machine import BIN, FLOWS, ROOT, Machine
from mlflow import MlflowClient
from servers import free_port

from pf_mlflow.running.offline_model import offline_model

PAGE = ROOT / "docs" / "mistakes.md"
HEAD = "| mistake | typed | it says | exit code | calls of a model |\n| --- | --- | --- | --- | --- |\n"
RUN = "run --flow my_flow --data topics.jsonl"
BOM = "a byte-order mark"


@dataclass(frozen=True)
class Mistake:
    words: str
    code: int = 1
    env: dict[str, str] = field(default_factory=dict)
    calls: bool = False
    """Whether a model is asked."""


TYPED = {
    "data that are not there": Mistake("run --flow my_flow --data tpoics.jsonl"),
    "a flow that is not there": Mistake("run --flow my_flwo --data topics.jsonl"),
    "a missing column": Mistake("run --flow my_flow --data subjects.jsonl"),
    "a column without `${…}`": Mistake(f"{RUN} --column-mapping topic=data.topic"),
    "an input that the flow lacks": Mistake(f"{RUN} --column-mapping 'tpoic=${{data.topic}}'"),
    "an empty file": Mistake("run --flow my_flow --data empty.jsonl"),
    "a bad line of JSON": Mistake("run --flow my_flow --data broken.jsonl"),
    "data that are not UTF-8": Mistake("run --flow my_flow --data utf16.jsonl"),
    "a workbook as data": Mistake("run --flow my_flow --data topics.xlsx"),
    "a typo in the YAML": Mistake("run --flow no_yaml --data topics.jsonl"),
    "a kind of node that there is not": Mistake("run --flow no_kind --data topics.jsonl"),
    "a node that there is not": Mistake("run --flow no_node --data topics.jsonl"),
    "an LLM node without connection": Mistake("run --flow unconnected --data topics.jsonl"),
    "a name that is taken": Mistake(f"{RUN} --name before"),
    "a batch that there is not": Mistake("show bevore"),
    "`--metrics` without `--evaluate`": Mistake(f"{RUN} --metrics token_f1", 2),
    "an evaluation flow that is not there": Mistake(f"{RUN} --evaluate NO_SUCH"),
    "a wrong evaluation flow": Mistake(f"{RUN} --evaluate my_flow"),
    "an unknown metric": Mistake("evaluate before --metrics tokn_f1"),
    "a judge without a model": Mistake("evaluate before --metrics correctness"),
    "an address without its colon": Mistake(RUN, env={"MLFLOW_TRACKING_URI": "http//mlflow:5000"}),
    "a setting's value that there is not": Mistake(RUN, env={"PF_MLFLOW_CONTENT": "some"}),
    "prices that are not there": Mistake(RUN, env={"PF_MLFLOW_PRICES": "/no/prices.yaml"}),
}
"""Those that are told before promptflow is imported."""
STARTED = {
    "a connection that there is not": Mistake("run --flow no_connection --data topics.jsonl"),
    "a model that there is not (404)": Mistake(f"{RUN} --connections joke.connection=offline joke.model=gpt-9"),
    "a model's server that is down": Mistake(f"{RUN} --connections joke.connection=down"),
    "a model behind a proxy that is down": Mistake(
        f"{RUN} --connections joke.connection=far", env={"HTTP_PROXY": "http://127.0.0.1:{port}", "NO_PROXY": "", "no_proxy": ""}
    ),
    "a key that is refused (401)": Mistake("run --flow my_flow --data refused.jsonl --concurrency 2", calls=True),
    "a deleted experiment": Mistake(RUN, env={"MLFLOW_EXPERIMENT_NAME": "deleted"}),
    "no right to write the store": Mistake(RUN, env={"MLFLOW_TRACKING_URI": "sqlite:////nowhere/mlflow.db"}),
    "an extra that is missing": Mistake(RUN, env={"MLFLOW_TRACKING_URI": "azureml://region.api.azureml.ms/mlflow/v1.0/x"}),
    "MLflow that is down": Mistake(RUN, 4, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:{port}", "PF_MLFLOW_GIVE_UP_AFTER": "0"}, True),
    "an old Python": Mistake("doctor", env={"PYTHONPATH": "older"}),
}  # fmt: skip
"""Those of whole commands."""
TWICE, STOPPED = "two commands with one name", "Ctrl-C"
MISTAKES = {**TYPED, BOM: Mistake("run --flow my_flow --data bom.jsonl --name before", 0, calls=True), **STARTED}
MISTAKES |= {TWICE: Mistake(f"{RUN} --name twice"), STOPPED: Mistake(f"{RUN} --name twice", 130, calls=True)}
_PORT = re.compile(r"127[.]0[.]0[.]1:\d+")
_TOLD = (r"^(?:Error|Warning): .*", r"^error +python .*(?:\n +→ .*)?", r"^Go on: .*", r"^Mapped by name: .*")
"""What says it, of what a command prints; the first that there is."""


def changed(flow: str, old: str, new: str) -> None:
    path = Path(flow)
    path.mkdir(exist_ok=True)
    for one in (FLOWS / "bare").iterdir():
        if one.is_file():
            (path / one.name).write_bytes(one.read_bytes())
    dag = path / "flow.dag.yaml"
    text = dag.read_text("utf-8")
    assert old in text
    dag.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="module")
def place(machine: Machine) -> Iterator[Machine]:
    """A folder with a flow and data, and flows and data in which something is wrong."""
    before = os.getcwd()
    os.chdir(machine.cwd)
    changed("my_flow", "joke", "joke")
    changed("no_yaml", "nodes:", "nodes")
    changed("no_kind", "type: llm", "type: lllm")
    changed("no_node", "${joke.output}", "${jok.output}")
    changed("no_connection", "connection: open_ai_connection", "connection: mine")
    changed("unconnected", "  connection: open_ai_connection\n", "")
    files = {
        "topics.jsonl": b'{"topic": "tea"}\n',
        "bom.jsonl": b'\xef\xbb\xbf{"topic": "tea"}\n',
        "subjects.jsonl": b'{"subject": "tea"}\n',
        "empty.jsonl": b"",
        "broken.jsonl": b'{"topic": "tea"}\n{"topic": "milk"\n',
        "utf16.jsonl": '{"topic": "tea"}\n'.encode("utf-16"),
        "topics.xlsx": b"PK\3\4",
        "refused.jsonl": b"".join(b'{"topic": "[[status=401]] %d"}\n' % number for number in range(60)),
        "waiting.jsonl": b'{"topic": "[[gate=twice]]"}\n' * 2,
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
    os.chdir(before)
    yield machine


@pytest.fixture(scope="module")
def ran(place: Machine) -> str:
    done = place.command("pf-mlflow", *shlex.split(MISTAKES[BOM].words))
    assert done.returncode == 0, done.stderr
    return done.stdout


def held_against_the_page(machine: Machine, name: str, printed: str, env: dict[str, str]) -> None:
    """Compare what a mistake printed with its row, or write the row."""
    found = next(filter(None, (re.search(one, printed, re.M) for one in _TOLD)), None)
    assert found, printed
    told = " ".join(found[0].split()).replace(f"{machine.cwd}/", "").replace(str(machine.folder), "~")
    told = _PORT.sub("127.0.0.1:PORT", re.sub(r"Python 3[.]\d+[.]\d+", "Python 3.N", told))
    told = re.sub(r"--experiment-id [0-9]+", "--experiment-id ID", told)
    one = MISTAKES[name]
    variables = " ".join(f"{key}={_PORT.sub('127.0.0.1:PORT', value)}" for key, value in env.items() if value)
    typed = f"{variables} pf-mlflow {one.words}".strip().replace("|", "\\|")
    cells = (
        name,
        f"`{typed}`",
        told.replace("|", "\\|").replace("<", "&lt;"),
        str(one.code),
        "yes" if one.calls else "none",
    )
    rows = dict(re.findall(r"^(\| (.+?) \| `.*)$", PAGE.read_text("utf-8"), re.M))
    rows = {title: row for row, title in rows.items()}
    row = f"| {' | '.join(cells)} |"
    if os.environ.get("REWRITE_PAGES"):
        rows[name] = row
        before = PAGE.read_text("utf-8").partition(HEAD)[0]
        PAGE.write_text(f"{before}{HEAD}" + "".join(f"{rows[one]}\n" for one in MISTAKES if one in rows), "utf-8")
    assert rows.get(name) == row


@pytest.mark.parametrize("name", TYPED)
def test_a_mistake_costs_nothing(place: Machine, fake_llm: FakeLlm, ran: str, name: str) -> None:
    one, asked = TYPED[name], fake_llm.requests.total()
    done = place.type(*shlex.split(one.words), **one.env)
    assert (done.exit_code, done.stderr.count("Error: ")) == (one.code, 1), done.output
    assert fake_llm.requests.total() == asked
    held_against_the_page(place, name, done.stderr, one.env)


def test_a_byte_order_mark_is_none(place: Machine, ran: str) -> None:
    held_against_the_page(place, BOM, ran, {})


@pytest.fixture(scope="module")
def connected(place: Machine) -> Iterator[Machine]:
    """The same with connections to a server that has one model, to none, and to one far away; and what else is odd."""
    older = place.cwd / "older" / "pf_mlflow-0.1.0.dist-info"
    older.mkdir(parents=True, exist_ok=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: pf-mlflow\nVersion: 0.1.0\nRequires-Python: >=3.99\n")
    client = MlflowClient(f"sqlite:///{place.cwd}/mlflow.db")
    client.delete_experiment(client.create_experiment("deleted"))
    with offline_model() as address:
        place.connect(address, name="offline")
        place.connect(f"http://127.0.0.1:{free_port()}/v1", name="down")
        place.connect("http://model.example:8080/v1", name="far")
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTED)
def test_a_mistake_that_only_a_server_or_the_machine_knows(
    connected: Machine, fake_llm: FakeLlm, ran: str, name: str
) -> None:
    one, asked = STARTED[name], fake_llm.requests.total()
    env = {key: value.format(port=free_port()) for key, value in one.env.items()}
    done = connected.command("pf-mlflow", *shlex.split(one.words), **env)
    assert done.returncode == one.code and "Traceback" not in done.stderr, done.stderr + done.stdout
    assert (fake_llm.requests.total() > asked) is one.calls
    held_against_the_page(connected, name, done.stderr + done.stdout, env)


@pytest.mark.slow
def test_two_commands_at_once_and_ctrl_c(place: Machine, fake_llm: FakeLlm, ran: str) -> None:
    (place.cwd / "topics.jsonl").write_bytes((place.cwd / "waiting.jsonl").read_bytes())
    log, words = place.folder / "twice.log", shlex.split(MISTAKES[TWICE].words)
    running = place.start("pf-mlflow", *words, log=log, PATH=f"{BIN}{os.pathsep}{place.env['PATH']}")
    until(lambda: any("[[gate=twice]]" in one for one in fake_llm.asked), "its lines wait at the gate")
    second = place.type(*words)
    assert second.exit_code == 1
    held_against_the_page(place, TWICE, second.stderr, {})
    running.send_signal(signal.SIGINT)
    until(lambda: "stopping" in log.read_text("utf-8"), "it says that it stops")
    fake_llm.open_gate("twice")
    assert running.wait(60) == 130
    held_against_the_page(place, STOPPED, log.read_text("utf-8"), {})


def test_the_page_has_every_mistake_and_no_other() -> None:
    assert re.findall(r"^\| (.+?) \| `", PAGE.read_text("utf-8"), re.M) == list(MISTAKES)
