"""Judges of one line: which are asked, what each kind of reply comes to, what they say together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from judge_server import COMPLETION_TOKENS, KEY, PROMPT_TOKENS, JudgeServer
from judged import MODEL, azure, judged, line, openai

from pf_mlflow.errors import BadInput
from pf_mlflow.records.score import Score
from pf_mlflow.scoring import LineFields, chosen_metrics, score_line
from pf_mlflow.scoring.judges.builtin import JUDGES, ORDER, default_judges
from pf_mlflow.scoring.judges.overall import overall

FULL = {"ground_truth": "Paris"}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (line(**FULL), ["context_sufficiency", "groundedness", "correctness", "safety"]),
        (line(), ["chunk_relevance", "groundedness", "relevance_to_query", "safety"]),
        (line(context=None, **FULL), ["correctness", "safety"]),
        (line(context=None), ["relevance_to_query", "safety"]),
        (line(question=None), ["groundedness", "safety"]),
        (line(question=None, **FULL), ["groundedness", "correctness", "safety"]),
        (line(""), ["chunk_relevance"]),
        (LineFields(), []),
    ],
)
def test_by_default_those_run_whose_inputs_the_line_has(fields: LineFields, names: list[str]) -> None:
    assert [judge.name for judge in default_judges(fields)] == names


def test_metrics_name_judges_among_others(judges: JudgeServer) -> None:
    scores = score_line(
        line(**FULL), "safety token_f1, answer_similarity", judge_model=MODEL, connection=openai(judges)
    )
    assert [(score.name, score.value, score.model) for score in scores] == [
        ("token_f1", 1.0, None),
        ("safety", "yes", MODEL),
        ("answer_similarity", 4, MODEL),
        ("overall", "pass", MODEL),
    ]
    only = score_line(line(**FULL), "safety", judge_model=MODEL, connection=openai(judges))
    assert [score.name for score in only] == ["safety", "overall"]
    assert [
        score.name for score in score_line(line(**FULL), "token_f1", judge_model=MODEL, connection=openai(judges))
    ] == ["token_f1"]
    assert {one.judge for one in judges.asked} == {"safety", "answer_similarity"}


def test_each_is_told_what_it_needs_and_no_more(judges: JudgeServer) -> None:
    fields = LineFields.of("the answer", "the question", "the truth", ["chunk one", "chunk two"])
    judged(openai(judges), fields, *JUDGES)
    told = {asked.judge: asked for asked in judges.asked}
    texts = {"answer": "the answer", "question": "the question", "ground_truth": "the truth", "context": "chunk"}
    for name, judge in JUDGES.items():
        shown = {
            field for field, text in texts.items() if f'"{field}": ' in told[name].text and text in told[name].text
        }
        assert shown == set(judge.shown) and set(judge.needs) <= shown, name
        grades = name.startswith("answer_")
        assert told[name].result["enum"] == ([1, 2, 3, 4, 5] if grades else ["yes", "no"])
        assert [message["role"] for message in told[name].body["messages"]] == ["system", "user"]
    assert set(told) == set(JUDGES) and len(judges.asked) == len(JUDGES) + 1


REPLIES = {
    "yes": "yes",
    "no": "no",
    "fenced": "yes",
    "told": "yes",
    "thought": "yes",
    "shout": "yes",
    "parts": "yes",
    "bool": "yes",
    "429:1": "yes",
    "500:2": "yes",
    "prose": "its reply holds no JSON with a result",
    "broken": "its reply holds no JSON with a result",
    "empty": "its reply holds no JSON with a result",
    "two": "several verdicts",
    "maybe": "its verdict is 'maybe', which is none of yes, no",
    "4": "its verdict is '4'",
    "429": "it answered 429: Status 429 as told, key **scrubbed** and **scrubbed**., 3 times",
    "500": "it answered 500: Status 500 as told, key **scrubbed** and **scrubbed**., 3 times",
    "401": "it answered 401: Status 401 as told, key **scrubbed** and **scrubbed**.",
    "400": "it answered 400",
    "404": "it answered 404",
    "hang": "it did not answer within 0.5 s",
    "html": "it answered what is no chat completion: <html>",
    "surrogate": "yes",
    "refuse": "it refused: I will not judge this.",
    "length": "its reply was cut off",
    "content_filter": "a content filter stopped its reply",
    "offline": "the built-in offline model is no judge",
}

PAID = ("prose", "broken", "empty", "two", "maybe", "4", "refuse", "length", "content_filter")
"""Replies that were paid for and are no verdict."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_MLFLOW_JUDGE_TIMEOUT", "0.5")
    monkeypatch.setenv("PF_MLFLOW_JUDGE_RETRIES", "2")
    monkeypatch.setattr("pf_mlflow.scoring.judges.client._LAST_WAIT", 0.05)


@pytest.mark.parametrize("connect", [openai, azure])
def test_each_reply_comes_to_what_it_says(judges: JudgeServer, impatient: None, connect: Any) -> None:
    for do, expected in REPLIES.items():
        told = judged(connect(judges), line(f"[[{do}]]"), "safety")
        score = told["safety"]
        assert (score.name, score.model) == ("safety", MODEL) and score.seconds is not None and score.cached is None
        if expected in ("yes", "no"):
            assert (score.value, score.error) == (expected, None), do
            assert score.rationale and score.rationale.startswith("told")
            assert told["overall"].value == ("pass" if expected == "yes" else "fail")
        else:
            assert score.value is None and score.error and expected in score.error, (do, score)
            assert score.rationale is None and "overall" not in told
        paid = expected in ("yes", "no") or do in PAID
        assert (score.prompt_tokens, score.completion_tokens) == (
            (PROMPT_TOKENS, COMPLETION_TOKENS) if paid else (None, None)
        )
        assert KEY not in repr(told)


def test_only_what_may_help_is_sent_again(judges: JudgeServer, impatient: None) -> None:
    expected = {"429": 3, "500": 3, "503": 3, "429:1": 2, "401": 1, "400": 1, "404": 1, "hang": 1, "prose": 1}
    for do, count in expected.items():
        judges.asked.clear()
        judged(openai(judges), line(f"[[{do}]] count"), "safety")
        assert len(judges.asked) == count, do


def test_grades(judges: JudgeServer) -> None:
    for do, value in {"1": 1, "5": 5, "4.0": 4, "5/5": 5}.items():
        told = judged(openai(judges), line(f"[[{do}]]", **FULL), "answer_correctness")
        assert told["answer_correctness"].value == value and list(told) == ["answer_correctness"]
    for do in ("0", "6", "2.5", "5/10", "yes"):
        told = judged(openai(judges), line(f"[[{do}]]", **FULL), "answer_correctness")
        assert told["answer_correctness"].value is None and "1, 2, 3, 4, 5" in str(told["answer_correctness"].error)


@pytest.mark.parametrize(
    ("chunks", "value", "precision"),
    [
        (["yes", "no", "yes"], "yes", 2 / 3),
        (["no", "no"], "no", 0.0),
        (["yes"], "yes", 1.0),
        (["yes", "maybe", "prose"], None, None),
    ],
)
def test_chunks_are_judged_one_by_one(
    judges: JudgeServer,
    chunks: list[str],
    value: str | None,
    precision: float | None,
) -> None:
    fields = line("fine", context=[f"[[chunk_relevance:{do}]] text {n}" for n, do in enumerate(chunks)])
    told = judged(openai(judges), fields, "chunk_relevance", "groundedness")
    score = told["chunk_relevance"]
    assert score.value == value and told["groundedness"].value == "yes"
    assert sum(asked.judge == "chunk_relevance" for asked in judges.asked) == len(chunks)
    assert score.prompt_tokens == len(chunks) * PROMPT_TOKENS
    if precision is None:
        assert "chunk_precision" not in told and score.rationale is None
        assert score.error and "chunk 2: its verdict is 'maybe'" in score.error and "chunk 3: its reply" in score.error
        assert (told["overall"].value, told["overall"].rationale) == ("pass", "without a verdict of chunk_relevance")
    else:
        assert told["chunk_precision"] == Score("chunk_precision", pytest.approx(precision))
        assert score.rationale == "\n".join(f"{n}. {do}: told {do}" for n, do in enumerate(chunks, 1))
        assert told["overall"].value == ("pass" if value == "yes" else "fail")


def test_a_judge_whose_inputs_are_missing_says_so(judges: JudgeServer) -> None:
    told = judged(openai(judges), line("a"), "correctness", "safety")
    assert told["correctness"] == Score("correctness", error="needs ground_truth", model=MODEL)
    assert told["overall"].value == "pass" and len(judges.asked) == 1


VERDICTS = [
    ({"safety": "yes", "groundedness": "yes"}, "pass", None),
    ({"safety": "no", "groundedness": "yes"}, "fail", "safety"),
    ({"safety": "no", "correctness": "no", "context_sufficiency": "yes"}, "fail", "correctness"),
    (
        {"safety": "no", "correctness": "no", "groundedness": "no", "context_sufficiency": "no"},
        "fail",
        "context_sufficiency",
    ),
    (
        {"safety": "no", "relevance_to_query": "no", "groundedness": "no", "chunk_relevance": "no"},
        "fail",
        "chunk_relevance",
    ),
    ({"relevance_to_query": "no", "safety": "no"}, "fail", "relevance_to_query"),
    ({"context_sufficiency": None, "correctness": "no"}, "fail", "correctness"),
    ({"context_sufficiency": None, "safety": "yes"}, "pass", None),
    ({"context_sufficiency": None, "safety": None}, None, None),
    ({"answer_similarity": 1}, None, None),
    ({"answer_similarity": 1, "safety": "yes"}, "pass", None),
    ({}, None, None),
]


@pytest.mark.parametrize(("verdicts", "value", "cause"), VERDICTS)
def test_the_root_cause_is_the_first_judge_that_fails(
    verdicts: dict[str, Any], value: str | None, cause: str | None
) -> None:
    judges = [
        (JUDGES[name], Score(name, told, error="down" if told is None else None, model=MODEL))
        for name, told in verdicts.items()
    ]
    for order in (judges, judges[::-1]):
        told = {score.name: score.value for score in overall(order)}
        assert (told.get("overall"), told.get("root_cause")) == (value, cause)


def test_their_order_is_that_of_the_defaults() -> None:
    for fields in (line(), line(**FULL)):
        names = [judge.name for judge in default_judges(fields)]
        assert names == sorted(names, key=ORDER.index)


def test_judges_and_chunks_are_asked_at_once_but_no_more_than_set(
    judges: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PF_MLFLOW_JUDGE_REQUESTS", "3")
    judges.latency = 0.5
    started = time.monotonic()
    told = judged(openai(judges), line(context=[f"c{n}" for n in range(6)]))
    seconds = time.monotonic() - started
    assert len(judges.asked) == 9 and judges.most_at_once == 3
    assert told["overall"].value == "pass" and seconds < 9 * judges.latency


def test_a_line_is_over_before_its_time_is_up(judges: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_LINE_TIMEOUT_SEC", "1")
    monkeypatch.setenv("PF_MLFLOW_JUDGE_REQUESTS", "1")
    judges.hang = 1.2
    told = judged(openai(judges), line("[[safety:hang]]", **FULL), "safety", "correctness")
    assert all("no verdict within 1 s" in str(score.error) for score in told.values()) and len(told) == 2


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        (lambda judges: None, ["'gpt-judge' has no connection", "--judge-connection"]),
        (lambda judges: object(), ["OpenAI or an Azure OpenAI connection, not object"]),
        (lambda judges: openai(judges, base_url="api.example.com/v1"), ["'judge'", "'api.example.com/v1'", "https://"]),
        (lambda judges: azure(judges, api_base=""), ["'judge'", "''"]),
    ],
)
def test_a_connection_that_cannot_be_used_is_one_sentence(
    judges: JudgeServer, connection: Any, says: list[str]
) -> None:
    with pytest.raises(BadInput) as told:
        judged(connection(judges), line(), "safety")
    assert all(word in str(told.value) for word in says) and KEY not in str(told.value)


@pytest.mark.parametrize(("key", "model"), [("offline", MODEL), (KEY, "offline-model (no real LLM)")])
def test_the_offline_model_is_no_judge(
    judges: JudgeServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    model: str,
) -> None:
    said: list[str] = []
    monkeypatch.setattr("pf_mlflow.scoring.judges.panel.warn_once", said.append)
    scores = score_line(line(**FULL), None, judge_model=model, connection=openai(judges, api_key=key))
    assert scores and all(score.model is None for score in scores) and not judges.asked
    assert said == ["The built-in offline model is no judge: no judge was asked; name a connection to a real model."]


def test_a_key_that_no_header_may_hold_is_not_told(judges: JudgeServer) -> None:
    for key in (f"{KEY}\r\nX-Evil: 1", f"{KEY}\u00fc"):
        score = judged(openai(judges, api_key=key), line(), "safety")["safety"]
        assert score.error and KEY not in score.error and not judges.asked


def test_no_server_there_is_an_error(judges: JudgeServer, impatient: None) -> None:
    with JudgeServer() as gone:
        connection = openai(gone)
    score = judged(connection, line(), "safety")["safety"]
    assert score.value is None and score.error and "it cannot be reached" in score.error and "3 times" in score.error


def test_a_token_that_has_run_out_is_the_judges_trouble(judges: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: Any) -> str:
        raise RuntimeError("Please run 'az login'")

    connection = azure(judges, api_key=None, auth_mode="meid_token")
    monkeypatch.setattr(type(connection), "get_token", run_out)
    score = judged(connection, line(), "safety")["safety"]
    assert score.value is None and "az login" in str(score.error)


def test_a_judge_and_a_metric_of_one_name_are_refused(judges: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "polite.py").write_text("def polite(answer):\n    return True\n")
    (tmp_path / "polite.yaml").write_text("name: polite\nguidelines: [Thanks.]\n")
    names = [str(tmp_path / name) for name in ("polite.py", "polite.yaml")]
    with pytest.raises(BadInput, match="both named 'polite'"):
        score_line(line(), names, judge_model=MODEL, connection=openai(judges))
    with pytest.raises(BadInput, match="both named 'polite'"):
        chosen_metrics(LineFields(), names, with_judges=True)
