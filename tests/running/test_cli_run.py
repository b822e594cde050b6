"""`pf-mlflow run`: what it shows, which model it takes, and what it refuses before the first LLM call."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS, FakeLlm
from machine import FLOWS, ROOT, SECRET, Machine, runs_of, tracked
from mlflow import MlflowClient
from servers import CountingProxy, free_port

from pf_mlflow.records.offline_model import OFFLINE_MODEL

MAPPING = ("--column-mapping", "topic=${data.topic}")


@pytest.fixture(scope="module")
def keyless(new_machine: Callable[..., Machine]) -> Machine:
    """A machine on which promptflow knows no connection."""
    return new_machine()


def run(machine: Machine, topics: list[str], *words: str, **env: str) -> tuple[int, str, str]:
    data = machine.data("given", [{"topic": topic} for topic in topics])
    done = machine.command("pf-mlflow", "run", "--flow", str(ROOT), "--data", str(data), *MAPPING, *words, **env)
    return done.returncode, done.stdout, done.stderr


def connections(machine: Machine) -> list[str]:
    with closing(sqlite3.connect(machine.folder / "promptflow" / "pf.sqlite")) as db:
        return [name for (name,) in db.execute("SELECT connectionName FROM connection")]


def test_without_any_key_the_offline_model_answers_and_says_so(keyless: Machine) -> None:
    code, out, err = run(keyless, ["tea", "温泉", "milk"], "--name", "offline", "--display-name", "Try out")
    assert code == 0, err
    assert "NO real language model" in out
    uri = f"sqlite:///{keyless.cwd / 'mlflow.db'}"
    assert f"MLflow:  {uri}, experiment" in out and re.search(r"^Look at: \S*pf-mlflow ui offline$", out, re.M)
    assert re.search(r"lines completed / failed\W+3 / 0", out)
    batch = tracked(uri, "offline")
    assert batch.column("params", "input_model") == 3 * [OFFLINE_MODEL] == batch.column("tags", "response_model")
    sums = [sum(batch.column("metrics", f"{kind}_tokens")) for kind in ("prompt", "completion", "total")]
    assert "{:,} + {:,} = {:,}".format(*map(int, sums)) in out
    assert batch.parent.info.run_name == "Try out"
    assert connections(keyless) == []


@pytest.mark.slow
def test_what_ran_with_a_stand_in_connection_is_gone_on_with(keyless: Machine) -> None:
    code, _, err = run(keyless, ["tea", "milk"], "--name", "begun", "--limit", "1")
    assert code == 0, err
    done = keyless.command("pf-mlflow", "run", "--resume-from", "begun", "--name", "begun_on")
    assert done.returncode == 0, done.stderr
    batch = tracked(f"sqlite:///{keyless.cwd / 'mlflow.db'}", "begun_on")
    assert batch.column("params", "input_model") == 2 * [OFFLINE_MODEL]


def test_a_key_in_the_environment_is_used_and_kept_nowhere(keyless: Machine, fake_llm: FakeLlm) -> None:
    env = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": fake_llm.base_url, "OPENAI_MODEL": "llama3.2"}
    code, out, err = run(keyless, ["tea", "[[raise=x]] [[status=401]]"], "--name", "keyed", **env)
    assert code == 3, err
    assert f"OPENAI_API_KEY at {fake_llm.base_url}" in out and "Failed lines" in out
    uri = f"sqlite:///{keyless.cwd / 'mlflow.db'}"
    batch = tracked(uri, "keyed")
    assert batch.column("params", "input_model") == ["llama3.2", "llama3.2"]
    assert batch.column("metrics", "total_tokens") == [PROMPT_TOKENS + COMPLETION_TOKENS, None]
    assert connections(keyless) == []
    everything = b"".join(path.read_bytes() for path in keyless.cwd.rglob("*") if path.is_file())
    assert SECRET not in out + err and SECRET.encode() not in everything


def test_the_users_own_connection_comes_first_and_stays(machine: Machine) -> None:
    code, out, err = run(machine, ["tea"], "--name", "own", OPENAI_API_KEY=SECRET, OPENAI_BASE_URL="http://127.0.0.1:9")
    assert code == 0, err
    assert "connection open_ai_connection" in out
    assert tracked(f"sqlite:///{machine.cwd / 'mlflow.db'}", "own").column("params", "output") == ["a joke about tea"]
    kept = connections(machine)
    assert "open_ai_connection" in kept and not any(name.startswith("pf_mlflow") for name in kept)


@pytest.mark.parametrize(
    ("words", "env", "says"),
    [
        (["--data", "nowhere.jsonl"], {}, ["The data file 'nowhere.jsonl' does not exist"]),
        (["--data", "broken.jsonl"], {}, ["broken.jsonl line 2 is no JSON", "{oops"]),
        (["--data", "empty.jsonl"], {}, ["'empty.jsonl' is empty"]),
        (["--data", "list.jsonl"], {}, ["list.jsonl line 1 is no JSON object"]),
        (["--column-mapping", "topic=${data.topik}"], {}, ["no column 'topik'", "its columns are topic"]),
        (["--column-mapping", "theme=${data.topic}"], {}, ["no input 'theme'", "its inputs are topic"]),
        (["--flow", "nowhere"], {}, ["no flow at 'nowhere'"]),
        (["--flow", "unmapped"], {}, ["no column 'subject'", "--column-mapping subject="]),
        ([], {"PF_MLFLOW_CONTENT": "some"}, ["PF_MLFLOW_CONTENT='some' cannot be used"]),
        ([], {"AZURE_OPENAI_API_KEY": "k" * 32}, ["AZURE_OPENAI_ENDPOINT"]),
        (
            [],
            {"AZURE_OPENAI_API_KEY": "k" * 32, "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com"},
            ["AZURE_OPENAI_DEPLOYMENT"],
        ),
        (["--connections", "joke.connection=nobody"], {}, ["nobody"]),
        ([], {"MLFLOW_TRACKING_URI": "sqlite:////nowhere/mlflow.db"}, ["/nowhere", "MLFLOW_TRACKING_URI"]),
    ],
)
def test_bad_input_stops_before_the_first_call(
    keyless: Machine, fake_llm: FakeLlm, words: list[str], env: dict[str, str], says: list[str]
) -> None:
    for name, text in {"broken": '{"topic": "tea"}\n{oops\n', "empty": "\n", "list": "[1]\n"}.items():
        (keyless.cwd / f"{name}.jsonl").write_text(text)
    (keyless.cwd / "unmapped").mkdir(exist_ok=True)
    flow = (
        (ROOT / "flow.dag.yaml")
        .read_text()
        .replace("  topic:\n    type: string\n    default: atom", "  subject: {type: string}")
    )
    (keyless.cwd / "unmapped" / "flow.dag.yaml").write_text(flow.replace("${inputs.topic}", "${inputs.subject}"))
    asked = fake_llm.requests.total()
    if "--flow" not in words:
        words = ["--flow", str(ROOT), *words]
    mapping = [] if "--column-mapping" in words or "unmapped" in words else MAPPING
    data = keyless.data("given", [{"topic": "tea"}])
    done = keyless.command("pf-mlflow", "run", "--data", str(data), *mapping, *words, **env)
    assert done.returncode == 1, done.stdout + done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(error) == 1 and "Traceback" not in done.stderr
    for words_of_it in says:
        assert words_of_it in error[0]
    assert fake_llm.requests.total() == asked


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_stops_it(machine: Machine, proxy: CountingProxy, fake_llm: FakeLlm, status: int) -> None:
    proxy.answer = status
    asked = fake_llm.requests.total()
    name = f"turned_away_{status}"
    code, _, err = run(machine, ["tea"], "--name", name, MLFLOW_TRACKING_URI=proxy.uri)
    assert code == 1 and str(status) in err and proxy.uri in err and "Traceback" not in err
    assert [line for line in err.splitlines() if name in line] == []
    assert fake_llm.requests.total() == asked
    assert name not in machine.pf("run", "list").stdout, "its name is free again"


def test_a_deleted_experiment_stops_it(machine: Machine, server: str) -> None:
    client = MlflowClient(server)
    client.delete_experiment(client.create_experiment("thrown away"))
    code, _, err = run(machine, ["tea"], MLFLOW_TRACKING_URI=server, MLFLOW_EXPERIMENT_NAME="thrown away")
    assert code == 1 and "'thrown away'" in err and "mlflow experiments restore" in err
    assert not runs_of(server, "thrown away")


def test_an_unreachable_server_is_waited_for_and_what_it_lacks_is_told(machine: Machine) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    code, out, err = run(machine, ["tea"], "--name", "later", MLFLOW_TRACKING_URI=uri, PF_MLFLOW_GIVE_UP_AFTER="1")
    assert code == 4, err
    assert uri in err and "wait in the spool" in err
    assert "Batch later" in out and "pf-mlflow sync later\n" in out and "Look at" not in out


def test_a_result_is_whole_though_nobody_waited(machine: Machine) -> None:
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "PF_MLFLOW_GIVE_UP_AFTER": "1"}
    code, out, err = run(machine, ["tea"], "--name", "unawaited", "--no-wait", "--json", **env)
    told = json.loads(out)
    assert (code, told["status"], told["delivered"]) == (0, "Completed", False), err
    assert told["next"] == "pf-mlflow sync unawaited" and told["batch"] == "unawaited"


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--data", "x", "--engine", "magic"],
        ["run", "--data", "x", "--column-mapping", "topic"],
        ["fly"],
    ],
)
def test_a_wrong_command_line_exits_with_2(keyless: Machine, words: list[str]) -> None:
    assert keyless.command("pf-mlflow", *words).returncode == 2


@pytest.mark.parametrize(("package", "version"), [("promptflow", "1.17.0"), ("mlflow", "3.99.0"), ("mlflow", "2.22.0")])
def test_unsupported_versions_are_refused(keyless: Machine, tmp_path: Path, package: str, version: str) -> None:
    info = tmp_path / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    code, _, err = run(keyless, ["tea"], PYTHONPATH=str(tmp_path))
    assert code == 1 and f"{package} {version} is not supported" in err and "pip install" in err


def test_several_nodes_are_run_offline_too(keyless: Machine) -> None:
    data = keyless.data("questions", [{"question": "When?", "chat_history": []}])
    mapping = ["--column-mapping", "question=${data.question}", "--column-mapping", "chat_history=${data.chat_history}"]
    words = ["run", "--flow", str(FLOWS / "several"), "--data", str(data), *mapping, "--name", "several_offline"]
    done = keyless.command("pf-mlflow", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    batch = tracked(f"sqlite:///{keyless.cwd / 'mlflow.db'}", "several_offline")
    assert batch.children[0].data.tags["response_model"] == OFFLINE_MODEL


def test_with_tracking_off_failed_lines_still_count(machine: Machine, tmp_path: Path) -> None:
    data = machine.data("off", [{"topic": "[[status=401]]"}, {"topic": "tea"}])
    words = ["run", "--flow", str(ROOT), "--data", str(data), *MAPPING]
    done = machine.command("pf-mlflow", *words, cwd=tmp_path, PF_MLFLOW_ENABLED="false")
    assert done.returncode == 3 and "PF_MLFLOW_ENABLED is false" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_chosen_connection_and_the_flows_own_settings_hold(
    machine: Machine, fake_llm: FakeLlm, tmp_path: Path
) -> None:
    machine.connect(fake_llm.base_url, name="mine")
    flow = tmp_path / "settled"
    shutil.copytree(ROOT / "nodes", flow / "nodes")
    shutil.copy(ROOT / "joke.jinja2", flow)
    dag = (ROOT / "flow.dag.yaml").read_text("utf-8").replace("open_ai_connection", "nobody")
    dag = dag.replace("environment:\n  python_requirements_txt: requirements.txt\n", "")
    settings = "environment_variables:\n  MLFLOW_EXPERIMENT_NAME: settled in the flow\n"
    (flow / "flow.dag.yaml").write_text(dag.replace("environment_variables:\n", settings), "utf-8")
    data = machine.data("settled", [{"topic": "tea"}])
    words = ["run", "--flow", str(flow), "--data", str(data), *MAPPING, "--name", "settled"]
    words += ["--connections", "joke.connection=mine", "--connections", "joke.model=other"]
    done = machine.command("pf-mlflow", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "offline" not in done.stdout and "experiment 'settled in the flow'" in done.stdout
    batch = tracked(f"sqlite:///{machine.cwd / 'mlflow.db'}", "settled")
    assert batch.column("params", "input_model") == ["other"]
