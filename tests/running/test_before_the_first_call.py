"""A mistake is told in one sentence with its remedy, by the right exit code, before a model is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_llm import FakeLlm
from machine import FLOWS, ROOT, SECRET, Machine
from servers import free_port

from pf_mlflow.errors import BadInput
from pf_mlflow.records.offline_model import OFFLINE_MODEL
from pf_mlflow.running.hopeless import FIRST_LINES
from pf_mlflow.running.model_check import AskedModel, check_model, is_named
from pf_mlflow.running.offline_model import offline_model
from pf_mlflow.sources.promptflow.flow import llm_calls

BARE = FLOWS / "bare"


@pytest.fixture(scope="module")
def model_server() -> Iterator[str]:
    with offline_model() as address:
        yield address


def test_several_outputs_without_an_answer_are_told_before(machine: Machine, tmp_path: Path) -> None:
    flow = tmp_path / "flow.dag.yaml"
    text = (BARE / "flow.dag.yaml").read_text()
    flow.write_text(text.replace("  answer:\n", "  joke:\n    type: string\n    reference: ${joke.output}\n  loud:\n"))
    data = machine.data("several_outputs", [{"topic": "tea"}])
    words = ["run", "--flow", str(tmp_path), "--data", str(data), "--evaluate", str(ROOT / "eval_flow")]
    done = machine.type(*words)
    assert done.exit_code == 1 and "Which output is the answer to be scored? The flow has joke, loud." in done.stderr


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (OFFLINE_MODEL, None),
        (f"{OFFLINE_MODEL}:latest", None),
        ("gpt-9", f"There is no model 'gpt-9' at ADDRESS, which has {OFFLINE_MODEL}; name one"),
    ],
)
def test_a_model_that_is_not_there(model_server: str, model: str, says: str | None) -> None:
    asked = AskedModel(model, model_server, SECRET)
    assert SECRET not in repr(asked)
    if says is None:
        return check_model(asked)
    with pytest.raises(BadInput) as told:
        check_model(asked)
    assert says.replace("ADDRESS", model_server) in str(told.value)


@pytest.mark.parametrize(
    ("model", "name", "is_it"),
    [
        ("gemini-2.0-flash", "models/gemini-2.0-flash", True),
        ("llama3.2", "llama3.2:latest", True),
        ("any/thing", "any/*", True),
        ("any", "*", True),
        ("gpt-4", "gpt-4o", False),
    ],
)
def test_what_a_servers_name_of_a_model_means(model: str, name: str, is_it: bool) -> None:
    assert is_named(model, name) is is_it


def test_a_server_that_tells_no_models_is_asked_by_the_lines(fake_llm: FakeLlm) -> None:
    check_model(AskedModel("gpt-9", fake_llm.base_url, SECRET))


@contextmanager
def refusing(body: bytes) -> Iterator[str]:
    """Yield the address of a server that answers 401 whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.mark.parametrize(
    ("body", "is_told"),
    [
        (b'{"error": {"message": "Incorrect API key provided: sk-se...", "code": "invalid_api_key"}}', True),
        (b'{"error": {"message": "Missing scopes: api.model.read", "code": "missing_scope"}}', False),
        (b'{"error": {"message": "no", "code": null}}', False),
        (b'{"error": "Unauthorized"}', False),
        (b"<html>401</html>", False),
        (b"[]", False),
    ],
)
def test_a_key_that_is_none_is_told_and_no_other_refusal_to_tell_models(body: bytes, is_told: bool) -> None:
    with refusing(body) as address:
        if not is_told:
            return check_model(AskedModel("gpt-9", address, SECRET))
        with pytest.raises(BadInput, match="answered 401, invalid_api_key; look at the key in the flow's conn") as told:
            check_model(AskedModel("gpt-9", address, SECRET))
    assert SECRET not in str(told.value) and "sk-se" not in str(told.value)


def test_a_server_that_is_down() -> None:
    address = f"http://user:{SECRET}@127.0.0.1:{free_port()}/v1"
    with pytest.raises(BadInput, match="cannot be reached.*start its server") as told:
        check_model(AskedModel("gpt-9", address, SECRET))
    assert SECRET not in str(told.value)


VARIANTS = {
    "nodes": [
        {"name": "a", "type": "llm", "connection": "mine", "inputs": {"model": "m"}},
        {"name": "b", "use_variants": True},
        {"name": "c", "type": "python", "connection": "mine"},
    ],
    "node_variants": {
        "b": {
            "default_variant_id": "v0",
            "variants": {f"v{n}": {"node": {"type": "llm", "connection": f"c{n}", "inputs": {"model": f"m{n}"}}} for n in (0, 1)},
        }
    },
}  # fmt: skip


@pytest.mark.parametrize(("variant", "number"), [(None, 0), ("${b.v1}", 1)])
def test_the_variant_that_runs_is_the_one_that_is_asked_for(variant: str | None, number: int) -> None:
    assert list(llm_calls(VARIANTS, variant)) == [("a", "mine", "m"), ("b", f"c{number}", f"m{number}")]


def test_a_missing_model_stops_a_batch_and_frees_its_name(machine: Machine, model_server: str) -> None:
    machine.connect(model_server, name="lonely")
    data = machine.data("modelless", [{"topic": "tea"}])
    words = ["run", "--flow", str(BARE), "--data", str(data), "--name", "modelless"]
    done = machine.command("pf-mlflow", *words, "--connections", "joke.connection=lonely")
    assert done.returncode == 1, done.stdout
    assert "Error: There is no model 'gpt-4o-mini' at" in done.stderr and "Traceback" not in done.stderr
    assert not (machine.folder / "promptflow" / ".runs" / "modelless" / "flow_outputs" / "output.jsonl").exists()
    assert "modelless" not in machine.pf("run", "list").stdout


def test_a_batch_that_is_refused_on_every_line_stops(machine: Machine, fake_llm: FakeLlm) -> None:
    data = machine.data("refused", [{"topic": f"[[status=401]] {number}"} for number in range(60)])
    refused = fake_llm.requests[401]
    words = ["run", "--flow", str(BARE), "--data", str(data), "--name", "refused", "--concurrency", "2", "--json"]
    done = machine.command("pf-mlflow", *words)
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"], told["interrupted"]) == (1, "Canceled", False), done.stderr
    assert "answered 401" in told["failure"] and "look at the key" in told["failure"]
    assert FIRST_LINES <= fake_llm.requests[401] - refused < 60 / 2


@pytest.mark.slow
def test_a_batch_that_was_paid_for_shows_its_table_though_scoring_fails(machine: Machine) -> None:
    data = machine.data("paid", [{"topic": "tea"}])
    words = ["run", "--flow", str(BARE), "--data", str(data), "--name", "paid", "--evaluate", "broken"]
    broken = machine.cwd / "broken"
    broken.mkdir()
    text = (ROOT / "eval_flow" / "flow.dag.yaml").read_text()
    (broken / "flow.dag.yaml").write_text(
        text.replace("path: nodes/score.py", "path: nodes/none.py").replace("- ../", f"- {ROOT}/")
    )
    (broken / "nodes").mkdir()
    for name in ("save_scores.py", "aggregate.py"):
        (broken / "nodes" / name).write_text((ROOT / "eval_flow" / "nodes" / name).read_text())
    done = machine.command("pf-mlflow", *words)
    assert done.returncode == 3, done.stderr
    assert "lines completed / failed" in done.stdout and "It was not scored: " in done.stderr
    assert "pf-mlflow evaluate paid" in done.stderr


@pytest.mark.slow
def test_the_offline_model_is_reached_behind_a_proxy(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(HTTP_PROXY=f"http://127.0.0.1:{free_port()}")
    data = machine.data("proxied", [{"topic": "tea"}])
    done = machine.command("pf-mlflow", "run", "--flow", str(BARE), "--data", str(data), NO_PROXY="", no_proxy="")
    assert done.returncode == 0, done.stderr
