"""A built-in stand-in for a language model: an HTTP server on 127.0.0.1 that speaks OpenAI's protocol.

It lets the whole path run on a machine with no account and no key. It is no real model: asked a question about a
context it quotes the context's likeliest sentence, else it answers by template; the same prompt always the same way. It
counts tokens by its own rule (a word, a number, a CJK character or a mark is one).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

from pf_mlflow.records.offline_model import OFFLINE_MODEL

__all__ = ["answer", "count_tokens", "offline_model"]


_CJK = re.compile(r"[぀-ヿ㐀-鿿]")
_TOKEN = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+|[^\w\s]|_")
_SECTION = re.compile(r"^[#* ]*(?:(context|文脈)|(question|質問)|answer|回答)[* ]*(?:[:：][* ]*|$)", re.I | re.M)
_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s)|[。！？]|\n|$)", re.DOTALL)
_PLAIN = (
    "(offline model) Why did {topic} cross the road? To get to the other side of the argument.",
    "(offline model) I told my therapist about {topic}. Now we both need one.",
    "(offline model) {topic} walks into a bar. The barman says: you again?",
    "(offline model) What do you get when you mix {topic} with a deadline? A quick decision and a long regret.",
    "(offline model) They say you cannot please everyone. {topic} has never even tried.",
)
_JAPANESE = (
    "(オフラインモデル) {topic}が言いました。「今日も締め切りは明日にしよう」",
    "(オフラインモデル) {topic}と掛けて、月曜の朝と解く。その心は、どちらも二度寝したくなります。",
    "(オフラインモデル) {topic}について一晩考えました。よく眠れました。",
)


def count_tokens(text: str) -> int:
    """Return the number of tokens in a text by this model's own rule."""
    return len(_TOKEN.findall(text))


def answer(messages: list[dict[str, Any]], max_tokens: int | None = None) -> str:
    """Return the answer to a conversation: out of its context if it has one, else by template about its last line."""
    asked = _text(messages[-1]).strip() if messages else ""
    context, question = _context_and_question(messages)
    text = _quote(context, question) if context and question else _template(messages, asked)
    return text if max_tokens is None else _first_tokens(text, max_tokens)


def _template(messages: list[dict[str, Any]], asked: str) -> str:
    topic = asked.splitlines()[-1][:200] if asked else "nothing"
    templates = _JAPANESE if _CJK.search(topic) else _PLAIN
    seed = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).digest()[0]
    return templates[seed % len(templates)].format(topic=topic)


def _context_and_question(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """Return what stands last below `Context:` and `Question:`, or `文脈：` and `質問：`; "" for what is not there."""
    sections: dict[int | None, str] = {}
    for text in map(_text, messages):
        heads = list(_SECTION.finditer(text))
        ends = [head.start() for head in heads[1:]] + [len(text)]
        sections |= {head.lastindex: text[head.end() : end].strip() for head, end in zip(heads, ends, strict=False)}
    return sections.get(1, ""), sections.get(2, "")


def _quote(context: str, question: str) -> str:
    """Return the sentence of the context that shares most with the question; a term of few sentences weighs more."""
    sentences: list[str] = [sentence.strip() for sentence in _SENTENCE.findall(context)]
    asked, terms = _terms(question), [_terms(sentence) for sentence in sentences]
    sentences_with = Counter(term for found in terms for term in found)
    shares = [sum(1 / sentences_with[term] for term in found & asked) for found in terms]
    best = max(shares)
    if best == 0:
        return "文脈には書かれていません。" if _CJK.search(question) else "The context does not say."
    return sentences[shares.index(best)]


def _terms(text: str) -> set[str]:
    """Return a text's words of four letters and more, its numbers, and its pairs of neighbouring CJK characters."""
    words = [word.lower() for word in _TOKEN.findall(text) if len(word) > 3 or word.isdecimal()]
    pairs = [first + second for first, second in pairwise(text) if _CJK.match(first) and _CJK.match(second)]
    return {*words, *pairs}


def _first_tokens(text: str, most: int) -> str:
    ends = [match.end() for match in _TOKEN.finditer(text)]
    return text if len(ends) <= most else text[: ends[most - 1]] if most > 0 else ""


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.rstrip("/").endswith("/models"):
            self._send(
                200, {"object": "list", "data": [{"id": OFFLINE_MODEL, "object": "model", "owned_by": "pf-mlflow"}]}
            )
        else:
            self._not_found()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.rstrip("/").endswith("/chat/completions"):
            return self._not_found()
        try:
            request = json.loads(body)
            completion = _completion(request)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._send(
                400, {"error": {"message": f"not a chat completion request: {error}", "code": "bad_request"}}
            )
        if request.get("stream"):
            return self._stream(completion)
        return self._send(200, completion)

    def _not_found(self) -> None:
        message = f"the offline model has no {self.path}; it answers /v1/chat/completions and /v1/models"
        self._send(404, {"error": {"message": message, "code": "not_found"}})

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, completion: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in _chunks(completion):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the command's own output is what people read."""


def _completion(request: dict[str, Any]) -> dict[str, Any]:
    messages = request["messages"]
    text = answer(messages, request.get("max_tokens"))
    prompt, completion = sum(count_tokens(_text(message)) for message in messages), count_tokens(text)
    return {
        "id": "offline-" + hashlib.sha256(text.encode()).hexdigest()[:12],
        "object": "chat.completion",
        "created": int(time.time()),
        "model": OFFLINE_MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


def _chunks(completion: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = {key: completion[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    text = completion["choices"][0]["message"]["content"]
    for word in re.findall(r"\S+\s*", text):
        yield head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": word}}]}
    yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield head | {"choices": [], "usage": completion["usage"]}


@contextmanager
def offline_model() -> Iterator[str]:
    """Serve the offline model on a free port of 127.0.0.1 and yield its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="offline-model", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
