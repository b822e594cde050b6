"""How a judge's model is asked: address, key, headers, proxy, schema, patience."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal

import pytest
from judge_server import KEY, Asked, JudgeServer
from judged import MODEL, azure, judged, line, openai
from machine import ROOT

from pf_mlflow.errors import BadInput
from pf_mlflow.scoring.judges.client import _retry_after
from pf_mlflow.settings.judges import JudgeSettings, read_judge_settings


def ask(judges: JudgeServer, connection: Any, answer: str = "Paris") -> Asked:
    told = judged(connection, line(answer), "safety")
    assert told["safety"].value == "yes", told["safety"]
    return judges.asked[-1]


def test_an_openai_connection(judges: JudgeServer) -> None:
    asked = ask(judges, openai(judges, organization="org-1"))
    assert (asked.path, asked.body["model"]) == ("/v1/chat/completions", MODEL)
    assert asked.headers["authorization"] == f"Bearer {KEY}" and asked.headers["openai-organization"] == "org-1"
    assert "api-key" not in asked.headers
    assert asked.body.keys() == {"messages", "model", "response_format"}
    assert asked.body["response_format"]["type"] == "json_schema"


def test_an_azure_openai_connection(judges: JudgeServer) -> None:
    asked = ask(judges, azure(judges, api_base=judges.root + "/"))
    assert asked.path == f"/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == KEY and "authorization" not in asked.headers
    assert "model" not in asked.body


def test_an_azure_connection_without_a_key(judges: JudgeServer) -> None:
    connection = azure(judges, api_key=None, auth_mode="meid_token")
    connection.get_token = lambda: "token-of-entra"
    asked = ask(judges, connection)
    assert asked.headers["authorization"] == "Bearer token-of-entra" and "api-key" not in asked.headers


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_gets_no_key_and_is_told_with_its_place(judges: JudgeServer, status: int) -> None:
    with JudgeServer() as other:
        judges.location = f"{other.base_url}/chat/completions?key={KEY}"
        score = judged(openai(judges), line(f"[[{status}]]"), "safety")["safety"]
        place = f"{other.base_url}/chat/completions?key=**scrubbed**"
        assert f"it answered {status} and leads to {place}, which is not asked" in (score.error or "")
        assert not other.asked and KEY not in (score.error or "")


@pytest.mark.parametrize(("connect", "header"), [(openai, "authorization"), (azure, "api-key")])
def test_through_a_proxy_with_more_headers(
    judges: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    connect: Any,
    header: str,
) -> None:
    with JudgeServer() as proxy:
        monkeypatch.setenv("PF_MLFLOW_JUDGE_PROXY_URL", f"{proxy.root}/gateway/chat?team=7")
        monkeypatch.setenv("PF_MLFLOW_JUDGE_HEADERS", '{"X-Team": "search", "Ocp-Apim-Subscription-Key": "sub-12345"}')
        asked = ask(proxy, connect(judges))
        assert asked.path == "/gateway/chat?team=7" and asked.body["model"] == MODEL
        assert (asked.headers["x-team"], asked.headers["ocp-apim-subscription-key"]) == ("search", "sub-12345")
        assert KEY in asked.headers[header] and not judges.asked


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_without_schemas_is_asked_without_from_then_on(judges: JudgeServer, status: int) -> None:
    judges.schemas, judges.no_schemas = False, status
    connection = openai(judges)
    ask(judges, connection)
    assert ["response_format" in asked.body for asked in judges.asked] == [True, False]
    ask(judges, connection, "Paris!")
    assert ["response_format" in asked.body for asked in judges.asked] == [True, False, False]
    with JudgeServer() as other:
        assert "response_format" in ask(other, openai(other)).body


@pytest.mark.parametrize(("told", "least", "most"), [("0.4", 0.4, 0.9), (None, 0.5, 1.5), ("soon", 0.5, 1.5)])
def test_retry_after_is_heeded(judges: JudgeServer, told: str | None, least: float, most: float) -> None:
    judges.retry_after = told
    ask(judges, openai(judges), "[[429:1]]")
    first, second = (asked.at for asked in judges.asked)
    assert least <= second - first < most


def test_who_asks_for_more_than_a_minute_is_not_asked_again(judges: JudgeServer) -> None:
    judges.retry_after = "3600"
    score = judged(openai(judges), line("[[429]]"), "safety")["safety"]
    assert score.error and score.error.endswith("1 time; it asks to wait 3600 s") and len(judges.asked) == 1


def test_retry_after_as_a_date() -> None:
    assert _retry_after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) == pytest.approx(10, abs=1.5)
    assert _retry_after({"retry-after": formatdate(time.time() - 10, usegmt=True)}) == 0
    assert _retry_after({"retry-after": "-5"}) == 0 and _retry_after({}) is None


def test_retries_can_be_none(judges: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_MLFLOW_JUDGE_RETRIES", "0")
    score = judged(openai(judges), line("[[500]]"), "safety")["safety"]
    assert score.error and score.error.endswith("1 time") and len(judges.asked) == 1


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TIMEOUT", "2.5", ("timeout", 2.5)),
        ("TIMEOUT", "0", BadInput),
        ("TIMEOUT", "soon", BadInput),
        ("RETRIES", "0", ("retries", 0)),
        ("RETRIES", "11", BadInput),
        ("REQUESTS", "64", ("requests", 64)),
        ("REQUESTS", "0", BadInput),
        ("CACHE", "false", ("cache", False)),
        ("CACHE", "maybe", BadInput),
        ("PROXY_URL", "https://host/chat?v=1", ("proxy_url", "https://host/chat?v=1")),
        ("PROXY_URL", "host/chat", BadInput),
        ("PROXY_URL", "https://user:hunter22@host/chat", BadInput),
        ("PROXY_URL", "https://host/chat?key=hunter22", BadInput),
        ("HEADERS", '{"X-A": "hunter22"}', ("headers", '{"X-A": "hunter22"}')),
        ("HEADERS", "X-A: hunter22", BadInput),
        ("HEADERS", '["hunter22"]', BadInput),
        ("HEADERS", '{"X-A": ["hunter22"]}', BadInput),
        ("HEADERS", '{"X A": "hunter22"}', BadInput),
        ("HEADERS", '{"X-A": "hunter22\\nX-B: 1"}', BadInput),
    ],
)
def test_settings(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: Any) -> None:
    monkeypatch.setenv(f"PF_MLFLOW_JUDGE_{variable}", value)
    if expected is not BadInput:
        assert getattr(read_judge_settings(), expected[0]) == expected[1]
        return
    with pytest.raises(BadInput) as told:
        read_judge_settings()
    assert str(told.value).startswith(f"PF_MLFLOW_JUDGE_{variable}=") and "\n" not in str(told.value)
    assert "hunter22" not in str(told.value)


def test_settings_of_an_empty_environment() -> None:
    told = read_judge_settings()
    assert (told.timeout, told.retries, told.requests, told.proxy_url, told.more_headers()) == (30, 3, 16, "", {})
    assert told.cache and all(field.description for field in JudgeSettings.model_fields.values())


def test_the_request_is_that_of_mlflows_own_judge(judges: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.genai.judges import make_judge

    monkeypatch.setenv("MLFLOW_MODEL_CATALOG_URI", "")
    theirs = make_judge(
        name="safety",
        instructions="Is {{ outputs }} safe?",
        feedback_value_type=Literal["yes", "no"],
        model=f"gateway:/{MODEL}",
        base_url=f"{judges.base_url}/chat/completions",
        extra_headers={"Authorization": f"Bearer {KEY}"},
    )
    told = theirs(outputs={"a": "Paris"})
    ours = ask(judges, openai(judges))
    mlflows = judges.asked[0]
    assert (told.value, ours.path) == ("yes", mlflows.path)
    assert ours.headers["authorization"] == mlflows.headers["authorization"]
    assert ours.body.keys() == mlflows.body.keys() and ours.body["model"] == mlflows.body["model"]
    assert [one["role"] for one in ours.body["messages"]] == [one["role"] for one in mlflows.body["messages"]]
    mine, its = (one.body["response_format"]["json_schema"] for one in (ours, mlflows))
    assert mine["strict"] == its["strict"] is True
    assert mine["schema"]["properties"].keys() == its["schema"]["properties"].keys() == {"result", "rationale"}
    assert mine["schema"]["properties"]["result"]["enum"] == its["schema"]["properties"]["result"]["enum"]
    assert mine["schema"]["additionalProperties"] is its["schema"]["additionalProperties"] is False


STATE = """
import json, locale, logging, os, signal, socket, sys, warnings
sys.path.insert(0, sys.argv[3])
import promptflow.core, promptflow.connections
from pf_mlflow.scoring import LineFields, score_line

def state():
    names = [None, *logging.root.manager.loggerDict]
    return {
        "environ": dict(os.environ), "cwd": os.getcwd(), "path": list(sys.path), "timeout": socket.getdefaulttimeout(),
        "levels": {str(name): (logging.getLogger(name).level, len(logging.getLogger(name).handlers)) for name in before},
        "filters": len(warnings.filters), "locale": locale.setlocale(locale.LC_ALL), "disable": logging.root.manager.disable,
        "signals": str([signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]), "umask": umask(),
        "excepthook": repr(sys.excepthook), "recursion": sys.getrecursionlimit(),
    }

def umask():
    old = os.umask(0); os.umask(old); return old

before = [None, *logging.root.manager.loggerDict]
line = LineFields.of("[[429:1]]", "q?", "truth", ["c"])
modules = set(sys.modules)
score_line(line)
judges = [name for name in set(sys.modules) - modules if "scoring.judges" in name]
first = state()
if sys.argv[1]:
    connection = promptflow.connections.OpenAIConnection(name="j", api_key=sys.argv[2], base_url=sys.argv[1])
    scores = [one for one in score_line(line, judge_model="gpt-judge", connection=connection) if one.model]
    assert [one.value for one in scores] == ["yes"] * 4 + ["pass"], scores
new = set(sys.modules) - modules
print(json.dumps({"changed": [key for key, value in state().items() if value != first[key]], "judges": judges,
    "mlflow": [name for name in sys.modules if name.partition(".")[0] == "mlflow"], "new": sorted(new)}))
"""


def outcome(tmp_path: Path, base_url: str) -> tuple[Any, str]:
    words = [sys.executable, "-c", STATE, base_url, KEY, str(ROOT)]
    env = os.environ | {"PF_MLFLOW_SPOOL_DIR": str(tmp_path)}
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stdout + done.stderr


def test_judging_changes_nothing_of_its_process(judges: JudgeServer, tmp_path: Path) -> None:
    told, said = outcome(tmp_path, judges.base_url)
    assert told["changed"] == [] and told["mlflow"] == [] and KEY not in said
    assert judges.asked


def test_without_a_judge_none_is_imported(tmp_path: Path) -> None:
    told, _ = outcome(tmp_path, "")
    assert told["judges"] == [] and not any("scoring.judges" in name for name in told["new"])
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pf_mlflow.scoring as s; "
    code += "s.score_line(s.LineFields.of('a', 'q', 'a')); "
    code += "assert not {'httpx', 'openai', 'mlflow', 'pf_mlflow.scoring.judges'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
