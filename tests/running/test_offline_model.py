from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import any_text
from hypothesis import given
from openai import OpenAI

from pf_mlflow.records.offline_model import OFFLINE_MODEL
from pf_mlflow.running.offline_model import answer, count_tokens, offline_model


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with offline_model() as url:
        yield url


@pytest.fixture(scope="module")
def client(base_url: str) -> OpenAI:
    return OpenAI(api_key="offline", base_url=base_url, max_retries=0, timeout=5)


def about(topic: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "You tell jokes."}, {"role": "user", "content": topic}]


def test_openai_s_own_client_understands_an_answer(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="any", messages=about("atom"))  # type: ignore[arg-type]
    assert completion.model == OFFLINE_MODEL and "no real LLM" in OFFLINE_MODEL
    (choice,) = completion.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content and choice.message.content.startswith("(offline model)")
    assert "atom" in choice.message.content
    usage = completion.usage
    assert usage and usage.prompt_tokens == count_tokens("You tell jokes.") + count_tokens("atom") == 4 + 1
    assert usage.completion_tokens == count_tokens(choice.message.content)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_streamed_answer_is_the_same(client: OpenAI) -> None:
    messages: Any = about("two  spaces\tand 東京 tea")
    whole = client.chat.completions.create(model="any", messages=messages)
    chunks = list(client.chat.completions.create(model="any", messages=messages, stream=True))
    told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert told == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_it_lists_itself(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [OFFLINE_MODEL]


def test_many_at_once_get_their_own_answers(client: OpenAI) -> None:
    def ask(number: int) -> str:
        messages: Any = about(f"topic{number:03}")
        return client.chat.completions.create(model="any", messages=messages).choices[0].message.content or ""

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    assert [number for number, text in enumerate(answers) if f"topic{number:03}" not in text] == []


def post(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)["object"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]["code"]


@pytest.mark.parametrize(
    "path, body, expected",
    [
        ("/chat/completions", {"messages": about("atom")}, (200, "chat.completion")),
        ("/chat/completions/", {"messages": []}, (200, "chat.completion")),
        ("/chat/completions", {"messages": [{"role": "user", "content": None}]}, (200, "chat.completion")),
        ("/chat/completions", {}, (400, "bad_request")),
        ("/chat/completions", [], (400, "bad_request")),
        ("/chat/completions", None, (400, "bad_request")),
        ("/chat/completions", {"messages": "hello"}, (400, "bad_request")),
        ("/chat/completions", {"messages": [1]}, (400, "bad_request")),
        ("/chat/completions", {"messages": {"role": "user"}}, (400, "bad_request")),
        ("/chat/completions", {"messages": [{"content": 5}]}, (400, "bad_request")),
        ("/chat/completions", {"messages": about("atom"), "max_tokens": "many"}, (400, "bad_request")),
        ("/embeddings", {"input": "atom"}, (404, "not_found")),
    ],
)
def test_requests_good_and_bad(base_url: str, path: str, body: Any, expected: tuple[int, str]) -> None:
    assert post(base_url + path, json.dumps(body).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe"])
def test_a_body_that_is_no_json_is_refused(base_url: str, body: bytes) -> None:
    assert post(f"{base_url}/chat/completions", body) == (400, "bad_request")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", 0),
        ("Tell one joke!", 3 + 1),
        ("It's 42.", 3 + 1 + 1),
        ("snake_case", 3),
        ("東京タワー", 5),
        ("GPT東京", 1 + 2),
        ("東京2020年", 2 + 1 + 1),
        ("안녕", 2),
        ("naïve café", 2),
        ("😀😀", 2),
        (" \n\t", 0),
    ],
)
def test_count_tokens(text: str, expected: int) -> None:
    assert count_tokens(text) == expected


@pytest.mark.parametrize(
    "messages, expected",
    [
        ([], "nothing"),
        (about("  "), "nothing"),
        (about("first\n\nlast line \n"), "last line"),
        (about("{topic} {0} {"), "{topic} {0} {"),
        (about("x" * 1000), "x" * 200),
        ([{"content": [{"type": "text", "text": "seen"}, {"type": "image_url"}]}], "seen"),
    ],
)
def test_the_answer_is_about_the_last_line(messages: list[dict[str, Any]], expected: str) -> None:
    text = answer(messages)
    assert expected in text
    assert "x" * 201 not in text
    assert text == answer(messages)


def test_a_japanese_topic_is_answered_in_japanese() -> None:
    assert answer(about("猫")).startswith("(オフラインモデル)")


FACTS = (
    "Oslo is cold. Bergen, a port, has much rain! 2.5 million people visit Bergen's funicular\nTromsø lies far north."
)
ORTE = "大阪は西日本の中心です。札幌は北海道にあり、雪が多く降ります。"


def asking(context: str, question: str, form: str = "Context: {}\n\nQuestion: {}") -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Answer."}, {"role": "user", "content": form.format(context, question)}]


@pytest.mark.parametrize(
    "messages, expected",
    [
        (asking(FACTS, "Where is there much rain?"), "Bergen, a port, has much rain!"),
        (asking(FACTS, "WHAT DO PEOPLE VISIT?"), "2.5 million people visit Bergen's funicular"),
        (asking(FACTS, "Which town lies north?"), "Tromsø lies far north."),
        (asking(FACTS, "Why?"), "The context does not say."),
        (asking(ORTE, "雪が多いのはどこですか。"), "札幌は北海道にあり、雪が多く降ります。"),
        (asking(ORTE, "猫は?"), "文脈には書かれていません。"),
        (asking(ORTE, "大阪はどこ？", "文脈：{}\n質問：{}"), "大阪は西日本の中心です。"),
        (asking(FACTS, "Any rain?", "## Question\n{1}\n## Context\n{0}"), "Bergen, a port, has much rain!"),
        (
            asking(FACTS, "Any rain?", "**Context:**\n{}\n\n**Question:** {}\n\nAnswer:"),
            "Bergen, a port, has much rain!",
        ),
        (asking("Tea is hot", "Is it cold?") + asking("Ice is cold.", "Is it cold?"), "Ice is cold."),
        ([{"content": "Context: Ice is cold."}, {"content": "Question: Is it cold?"}], "Ice is cold."),
    ],
)
def test_a_question_about_a_context_is_answered_out_of_it(messages: list[dict[str, Any]], expected: str) -> None:
    assert answer(messages) == expected
    assert answer(messages, 2) == answer(messages, 1000)[: len(answer(messages, 2))] != expected


@pytest.mark.parametrize(
    "text",
    ["Context: \n\nQuestion: Why?", "Context: Ice is cold.", "Question: Why?", "In this context: a question: why?"],
)
def test_without_both_it_answers_by_template(text: str) -> None:
    assert answer(about(text)).startswith("(offline model)")


@given(any_text, any_text)
def test_any_context_and_question_are_answered(context: str, question: str) -> None:
    assert answer(asking(context, question)) == answer(asking(context, question))


@pytest.mark.parametrize("most", [None, 0, 1, 5, 1000])
def test_max_tokens(most: int | None) -> None:
    whole = answer(about("atom"))
    text = answer(about("atom"), most)
    assert whole.startswith(text)
    assert count_tokens(text) == min(count_tokens(whole), 1000 if most is None else most)


@given(any_text)
def test_any_text_is_answered_always_the_same_way(text: str) -> None:
    assert answer(about(text)) == answer(about(text))
    assert count_tokens(text) <= len(text)


def test_the_server_is_gone_afterwards() -> None:
    with offline_model() as url:
        assert post(f"{url}/chat/completions", b'{"messages": []}')[0] == 200
    with pytest.raises(urllib.error.URLError):
        post(f"{url}/chat/completions", b"{}")
