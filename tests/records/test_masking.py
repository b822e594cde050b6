from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import json_values, line_record, llm_node
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.records.line import FAILED, LineRecord, cleaned
from pf_mlflow.records.masking import MASK, Secrets
from pf_mlflow.sources.promptflow.known_secrets import environment_secrets

SECRET = "hunter2-hunter2"
KEY = "sk-proj-0123456789abcdefABCDEF"


def scrubbed_input(name: str, value: Any) -> Any:
    return cleaned(line_record(inputs={name: value}), "all", Secrets(environment_secrets())).inputs[name]


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("api_key", "abc", MASK),
        ("OPENAI_API_KEY", "abc", MASK),
        ("apiKey", "abc", MASK),
        ("password", 1234, MASK),
        ("db.passwd", "abc", MASK),
        ("client-secret", "abc", MASK),
        ("access_token", "abc", MASK),
        ("credentials", {"user": "ana"}, MASK),
        ("config", {"api_key": "abc", "url": ["u"]}, {"api_key": MASK, "url": ["u"]}),
        ("messages", [{"content": f"my key is {KEY}."}], [{"content": f"my key is {MASK}."}]),
        ("topic", f"{KEY}\n{KEY}", f"{MASK}\n{MASK}"),
        # what only looks like a secret
        ("max_tokens", 256, 256),
        ("tokens", "abc", "abc"),
        ("secretary", "Ms Lovelace", "Ms Lovelace"),
        ("topic", "a task-oriented-risk-assessment-framework", "a task-oriented-risk-assessment-framework"),
        ("topic", "sk-short", "sk-short"),
        ("topic", "the password: is it safe?", "the password: is it safe?"),
        ("scores", [1, 2.5, None, True], [1, 2.5, None, True]),
    ],
)
def test_secrets_in_values(name: str, value: Any, expected: Any) -> None:
    assert scrubbed_input(name, value) == expected


@pytest.mark.parametrize(
    "variable, hidden",
    [
        ("OPENAI_API_KEY", True),
        ("AZURE_CLIENT_SECRET", True),
        ("MLFLOW_TRACKING_PASSWORD", True),
        ("MLFLOW_TRACKING_TOKEN", True),
        ("DATABRICKS_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("AWS_SESSION_TOKEN", True),
        ("HF_ACCESS_TOKEN", True),
        ("PGPASSWORD", True),
        ("DB_PASS", True),
        ("AZURE_OPENAI_KEY", True),
        ("GH_PAT", True),
        ("FAVOURITE_COLOUR", False),
        ("TOKENIZERS_PARALLELISM", False),
    ],
)
def test_values_of_secret_environment_variables(monkeypatch: pytest.MonkeyPatch, variable: str, hidden: bool) -> None:
    monkeypatch.setenv(variable, SECRET)
    shown = MASK if hidden else SECRET
    assert scrubbed_input("topic", [f"say {SECRET}!"]) == [f"say {shown}!"]


@pytest.mark.parametrize(
    "variable, value, text, expected",
    [
        ("DATABASE_URL", f"postgresql://ana:{SECRET}@db/x", f"{SECRET} at db", f"{MASK} at db"),
        ("STORAGE_CONNECTION_STRING", f"AccountName=a;AccountKey={SECRET};X=y", f"<{SECRET}>", f"<{MASK}>"),
        ("DATABASE_URL", "postgresql://localhost/postgres", "postgresql://localhost/postgres", None),
        ("POSTGRES_PASSWORD", "postgres", "How do I back up postgres?", None),
        ("DB_PASSWORD", "password", "I forgot my password", None),
        ("OPENAI_API_KEY", "not-needed", "A key is not-needed here", None),
        ("PIN_TOKEN", "20261125", "on 20261125", None),
    ],
)
def test_what_is_secret_in_a_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, text: str, expected: str | None
) -> None:
    monkeypatch.setenv(variable, value)
    assert scrubbed_input("topic", text) == (text if expected is None else expected)


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbU"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text, expected",
    [
        (f"jwt {JWT}.", f"jwt {MASK}."),
        (f"a\n{PEM}\nb", f"a\n{MASK}\nb"),
        (f"ghp_{'a1' * 18}", MASK),
        (f"id AKIA{'A1' * 8}, ok", f"id {MASK}, ok"),
        ("postgresql://ana:p4ss@h/db", f"postgresql://ana:{MASK}@h/db"),
        ("https://ana:p4ss@h/?a=b", f"https://ana:{MASK}@h/?a=b"),
        ("Server=h;Password=abc;Database=d", f"Server=h;Password={MASK};Database=d"),
        (
            "DefaultEndpointsProtocol=https;AccountKey=" + "aB3+" * 20 + "==;",
            f"DefaultEndpointsProtocol=https;AccountKey={MASK};",
        ),
        ("curl -H 'Authorization: Bearer opaque-token-value'", f"curl -H 'Authorization: Bearer {MASK}'"),
        ("\u0130 token: a1b2c3d4e5", f"\u0130 token: {MASK}"),
        # what only looks like one
        ("postgresql://{user}:{password}@{host}/db", None),
        ("https://user:password@example.com", None),
        ("Unexpected token: identifier", None),
        ("token=tokenizer_v2, api_key=settings.api_key", None),
        ("api_key = os.environ['OPENAI_API_KEY']", None),
        ("token: gpt-4o-mini-2024-07-18", None),
        ("Authorization: Bearer $TOKEN", None),
        ("sk-circle-fade-dot-large", None),
        ("eyJ is how a JWT begins", None),
        ("パスワード: 東京タワーへの行き方", None),
    ],
)
def test_what_a_secret_looks_like(text: str, expected: str | None) -> None:
    assert scrubbed_input("topic", text) == (text if expected is None else expected)


def test_of_two_secrets_the_longer_is_masked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", SECRET)
    monkeypatch.setenv("B_PASSWORD", f"{SECRET}-and-more")
    monkeypatch.setenv("C_PASSWORD", "atom")  # too short to be told from a word
    assert scrubbed_input("topic", f"{SECRET}-and-more, atom") == f"{MASK}, atom"


@pytest.mark.parametrize(
    "error, expected",
    [
        ("Incorrect API key provided: abcd1234efgh.", f"Incorrect API key provided: {MASK}."),
        ('{"Authorization": "Bearer eyJhbGciOi"}', f'{{"Authorization": "Bearer {MASK}"}}'),
        ("https://x.blob.core/?sig=abcdefgh12&se=1", f"https://x.blob.core/?sig={MASK}&se=1"),
        ("password='correct horse'", "password='correct horse'"),
        ("password=correcthorse;db=x", f"password={MASK};db=x"),
        (f"bad {KEY}", f"bad {MASK}"),
        ("token: 12", "token: 12"),
        ("boom!", "boom!"),
    ],
)
def test_secrets_in_errors(error: str, expected: str) -> None:
    node = llm_node("joke", error=error, error_type="ValueError")
    record = cleaned(
        line_record(*node, error=error, error_type="ValueError", status=FAILED), "all", Secrets(environment_secrets())
    )
    assert (record.error, record.error_type) == (expected, "ValueError")
    assert record.node_spans()["joke"].error == expected


def test_secrets_are_masked_everywhere_in_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", SECRET)
    node = llm_node("joke", inputs={"a": SECRET}, output={"b": [SECRET]}, error=SECRET)
    record = cleaned(
        line_record(*node, inputs={"a": SECRET}, outputs={"b": SECRET}, error=SECRET),
        "all",
        Secrets(environment_secrets()),
    )
    assert SECRET not in record.to_json()
    assert record.to_json().count(MASK) == 6
    assert cleaned(record, "all", Secrets(environment_secrets())) == record


short = st.text(max_size=5)  # no secret's name is that short
harmless = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | short,
    lambda inner: st.lists(inner) | st.dictionaries(short, inner),
    max_leaves=5,
)


@given(st.dictionaries(short, harmless))
def test_a_record_without_secrets_stays_as_it_is(inputs: dict[str, Any]) -> None:
    record = line_record(inputs=inputs, outputs=inputs)
    assert cleaned(record, "all", Secrets(environment_secrets())) == record


SAID = "Q7-what-was-said"


def with_content() -> LineRecord:
    inputs = {"topic": SAID, "list": [SAID], "map": {SAID: SAID}, "n": 5, "none": None}
    spans = llm_node("joke", inputs=inputs, output=SAID, error=SAID, error_type="ValueError")
    spans = (spans[0], replace(spans[1], inputs={"messages": [SAID]}, output={"choices": [SAID]}, has_output=True))
    return line_record(
        *spans, inputs=inputs, outputs={"joke": SAID}, error=SAID, error_type="ValueError", status=FAILED
    )


def test_without_content_only_sizes_types_and_numbers_are_left() -> None:
    record = cleaned(with_content(), "none", Secrets(environment_secrets()))
    assert SAID not in record.to_json()
    sizes = {"topic": f"<{len(SAID)} characters>", "list": "<1 items>", "map": "<1 items>"}
    assert record.inputs == sizes | {"n": "<int>", "none": "<NoneType>"}
    payload = line_payload(record, "nightly")
    assert payload.params["output"] == f"<{len(SAID)} characters>"
    assert payload.metrics == line_payload(with_content(), "nightly").metrics
    assert payload.tags["promptflow.error"] == payload.tags["promptflow.error_type"] == "ValueError"


@given(json_values)
def test_without_content_no_value_stays(value: Any) -> None:
    spans = llm_node("joke", inputs={"x": value}, output=value)
    record = cleaned(
        line_record(*spans, inputs={"x": value}, outputs={"x": value}), "none", Secrets(environment_secrets())
    )
    told = [record.inputs["x"], record.outputs["x"], record.spans[1].inputs["x"], record.spans[1].output]
    assert set(told) == {told[0]} and told[0].startswith("<") and told[0].endswith(">")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("鍵はAKIA2E0A8F3B244C9986です", "鍵は**scrubbed**です"),
        ("call it with --token k3y9Zq7Lm2Xv", "call it with --token **scrubbed**"),
        ("call it with the token k3y9Zq7Lm2Xv", "call it with the token k3y9Zq7Lm2Xv"),
        ("token k3y9Zq7Lm2Xv -", "token k3y9Zq7Lm2Xv -"),
    ],
)
def test_a_value_behind_a_space_is_a_secret_only_of_an_option(text: str, masked: str) -> None:
    assert cleaned(line_record(inputs={"a": text}), "all", Secrets()).inputs["a"] == masked
