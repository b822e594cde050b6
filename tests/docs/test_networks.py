"""What docs/networks.md says of proxies and certificates holds for all that is asked: models, judges, MLflow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from fake_llm import FakeLlm
from judge_server import KEY, JudgeServer
from machine import FLOWS, ROOT, SECRET, Machine
from networks import Proxy, make_ca, with_tls
from openai import APIConnectionError, OpenAI

from pf_mlflow.errors import BadInput, TrackingError, TrackingRefused
from pf_mlflow.running.model_check import AskedModel, check_model
from pf_mlflow.scoring.judges.client import JudgeClient, NoReply
from pf_mlflow.scoring.judges.endpoint import Endpoint
from pf_mlflow.scoring.judges.judge import Question
from pf_mlflow.settings.judges import JudgeSettings
from pf_mlflow.tracking.reader import StoreReader

PAGE = (ROOT / "docs" / "networks.md").read_text("utf-8")
HOSTS = {"model": "model.example", "judge": "judge.example", "mlflow": "10.0.0.7"}
"""MLflow answers to addresses of private networks, and to names that it was started with."""
TROUBLE = (BadInput, TrackingError, APIConnectionError, NoReply)
"""What is raised where a server is not reached."""


@dataclass
class Network:
    ca: str
    proxy: str
    asked: list[str]
    tls: dict[str, int]
    """Ports of this machine at which the servers speak TLS, by name."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, fake_llm: FakeLlm, server: str) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    ca = make_ca(folder, *HOSTS.values(), "localhost", "mlflow.example")
    with JudgeServer() as judge:
        plain = {"model": fake_llm.base_url, "judge": judge.base_url, "mlflow": server}
        tls = {name: with_tls(urlsplit(uri).port or 0, folder / "server.pem") for name, uri in plain.items()}
        with tls["model"] as model, tls["judge"] as judges, tls["mlflow"] as mlflow:
            ports = {"model": model, "judge": judges, "mlflow": mlflow}
            proxy = Proxy({HOSTS[name]: port for name, port in ports.items()} | {"mlflow.example": mlflow})
            with proxy.running() as address:
                yield Network(str(ca), address, proxy.asked, ports)


def ask_model(base: str, folder: Path) -> None:
    """As `pf-mlflow run` asks for its models, and promptflow's LLM node for an answer."""
    check_model(AskedModel("any", f"{base}/v1", SECRET))
    client = OpenAI(api_key=SECRET, base_url=f"{base}/v1", max_retries=0)
    client.chat.completions.create(model="any", messages=[{"role": "user", "content": "tea"}])


def ask_judge(base: str, folder: Path) -> None:
    endpoint = Endpoint(f"{base}/v1/chat/completions", "judge", True, lambda: {"Authorization": f"Bearer {KEY}"})
    form = {"json_schema": {"schema": {"properties": {"result": {"enum": ["yes", "no"]}}}}}
    question = Question(({"role": "user", "content": "Is it? [[yes]]"},), form)
    JudgeClient(endpoint, JudgeSettings(retries=0)).ask(question)


def ask_mlflow(base: str, folder: Path) -> None:
    StoreReader(base, "x", folder).open_experiment()


ASKED: dict[str, Callable[[str, Path], None]] = {"model": ask_model, "judge": ask_judge, "mlflow": ask_mlflow}
OF_MODELS, OF_MLFLOW = "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without what this machine itself has set."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize(
    ("name", "variable", "is_reached"),
    [
        ("model", None, False),
        ("model", OF_MODELS, True),
        ("model", OF_MLFLOW, False),
        ("judge", None, False),
        ("judge", OF_MODELS, True),
        ("mlflow", None, False),
        ("mlflow", OF_MODELS, False),
        ("mlflow", OF_MLFLOW, True),
        ("mlflow", "MLFLOW_TRACKING_SERVER_CERT_PATH", True),
    ],
)
def test_a_private_ca(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str | None, is_reached: bool
) -> None:
    if variable:
        monkeypatch.setenv(variable, network.ca)
    ask, base = ASKED[name], f"https://localhost:{network.tls[name]}"
    if is_reached:
        return ask(base, tmp_path)
    with pytest.raises(TROUBLE) as told:
        ask(base, tmp_path)
    assert "certificate verify failed" in str(told.value)
    says = {
        "model": "let SSL_CERT_FILE name a file with its CA",
        "mlflow": "let REQUESTS_CA_BUNDLE or MLFLOW_TRACKING_",
    }
    assert says.get(name, "") in str(told.value)


@pytest.mark.parametrize("name", ASKED)
def test_a_proxy(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(OF_MODELS, network.ca)
    monkeypatch.setenv(OF_MLFLOW, network.ca)
    monkeypatch.setenv("HTTPS_PROXY", network.proxy)
    network.asked.clear()
    ASKED[name](f"https://{HOSTS[name]}", tmp_path)
    assert set(network.asked) == {HOSTS[name]}
    with pytest.raises(TROUBLE) as told:
        ASKED[name]("https://nobody.example", tmp_path)
    if name != "judge":
        assert "NO_PROXY name the host" in str(told.value)
    asked = len(network.asked)
    monkeypatch.setenv("NO_PROXY", "localhost")
    ASKED[name](f"https://localhost:{network.tls[name]}", tmp_path)
    assert len(network.asked) == asked


def test_a_name_that_mlflow_does_not_answer_to(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OF_MLFLOW, network.ca)
    monkeypatch.setenv("HTTPS_PROXY", network.proxy)
    with pytest.raises(
        TrackingRefused, match=r"refuses the name .*start its server with `--allowed-hosts mlflow.example`"
    ):
        ask_mlflow("https://mlflow.example", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["shell", "flow"])
def test_a_batch_behind_both(machine: Machine, network: Network, tmp_path: Path, place: str) -> None:
    """The variables stand in the shell, or under `environment_variables` of the flow."""
    machine.connect("https://model.example/v1", name="company")
    reach = {"HTTPS_PROXY": network.proxy, "SSL_CERT_FILE": network.ca, "REQUESTS_CA_BUNDLE": network.ca}
    flow = Path(shutil.copytree(FLOWS / "bare", tmp_path / "bare"))
    if place == "flow":
        dag = yaml.safe_load((flow / "flow.dag.yaml").read_text("utf-8"))
        (flow / "flow.dag.yaml").write_text(yaml.safe_dump(dag | {"environment_variables": reach}), "utf-8")
        reach = {}
    env = reach | {
        "MLFLOW_TRACKING_URI": f"https://{HOSTS['mlflow']}",
        "MLFLOW_EXPERIMENT_NAME": "behind both",
    }
    network.asked.clear()
    data = machine.data("behind", [{"topic": "tea"}])
    words = ["--name", f"behind_{place}", "--connections", "joke.connection=company", "--json"]
    done = machine.command("pf-mlflow", "run", "--flow", str(flow), "--data", str(data), *words, **env)
    assert done.returncode == 0 and json.loads(done.stdout)["delivered"], done.stderr
    assert {HOSTS["model"], HOSTS["mlflow"]} <= set(network.asked)
    through = f"http://127.0.0.1:{urlsplit(network.proxy).port}"
    assert through not in done.stdout + done.stderr


def test_the_page_names_each_variable() -> None:
    for name in (OF_MODELS, OF_MLFLOW, "MLFLOW_TRACKING_SERVER_CERT_PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        assert f"`{name}`" in PAGE
