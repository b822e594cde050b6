"""A real HTTP server that speaks OpenAI's protocol and does what the prompt's directives say.

A directive is `[[name=value]]` in the last message: `status` (and `code`) answers an error, `latency` waits seconds,
`gate` waits until a test opens it, `model` is the answer's, `usage` is `none`, `empty`, `nested`, `text` or `negative`,
`say` is the answer, as JSON text.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIRECTIVE = re.compile(r"\[\[(\w+)=(.*?)\]\]", re.DOTALL)
PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7
GOOD_USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}
EMBEDDED = {
    "object": "list",
    "model": "fake-1",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
    "usage": {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS},
}
USAGES: dict[str, Any] = {
    "none": None,
    "empty": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    "nested": GOOD_USAGE
    | {
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
    "text": {"prompt_tokens": "many", "completion_tokens": "few", "total_tokens": [18]},
    "negative": {"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -2},
}
ERRORS = {
    400: {"message": "The response was filtered by the content management policy.", "code": "content_filter"},
    401: {"message": "Incorrect API key provided: sk-test-0123456789abcdefghij.", "code": "invalid_api_key"},
    429: {"message": "You exceeded your current quota.", "code": "insufficient_quota", "type": "insufficient_quota"},
    500: {"message": "The server had an error.", "code": "server_error"},
}


class FakeLlm:
    """The server; `requests` counts what it was asked, by answered status; prompts are kept as asked and as answered.

    `tokens` are those of the texts it wrote, as it told them: embeddings apart.
    """

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.tokens = 0
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.latency = 0.0
        self._gates: dict[str, threading.Event] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = outer.answer(request)
                outer.requests[status] += 1
                streams = request.get("stream") and status == 200
                data = _streamed(body) if streams else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(sys.exc_info()[1], ConnectionError):  # of a worker that was killed
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "input" in request:
            return 200, EMBEDDED
        prompt = str(request["messages"][-1]["content"] if "messages" in request else request["prompt"])
        do = dict(DIRECTIVE.findall(prompt))
        self.asked.add(prompt.strip())
        time.sleep(float(do.get("latency", self.latency)))
        if "gate" in do:
            self._gate(do["gate"]).wait(120)
        self.answered.add(prompt.strip())
        status = int(do.get("status", 200))
        if status != 200:
            return status, {"error": ERRORS[status]}
        text = json.loads(do["say"]) if "say" in do else f"a joke about {prompt.strip()}"
        said = {"message": {"role": "assistant", "content": text}} if "messages" in request else {"text": text}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion" if "messages" in request else "text_completion",
            "created": 1,
            "model": do.get("model", "fake-1"),
            "choices": [{"index": 0, "finish_reason": "stop", **said}],
            "usage": USAGES.get(do.get("usage", ""), GOOD_USAGE),
        }
        if do.get("usage") == "none":
            del answer["usage"]
        self.tokens += PROMPT_TOKENS + COMPLETION_TOKENS
        return 200, answer

    def _gate(self, name: str) -> threading.Event:
        return self._gates.setdefault(name, threading.Event())

    def open_gate(self, name: str) -> None:
        self._gate(name).set()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _streamed(answer: dict[str, Any]) -> bytes:
    """Return an answer as its words one after the other, and its usage last."""
    said = answer["choices"][0]
    words = re.findall(r"\S+\s*", said["text"] if "text" in said else said["message"]["content"])
    parts = [{"text": word} if "text" in said else {"delta": {"role": "assistant", "content": word}} for word in words]
    end = {"text": ""} if "text" in said else {"delta": {}}
    chunk = {**answer, "object": answer["object"].replace("chat.completion", "chat.completion.chunk"), "usage": None}
    chunks = [chunk | {"choices": [{"index": 0, "finish_reason": None, **part}]} for part in parts]
    chunks.append(chunk | {"choices": [{"index": 0, "finish_reason": "stop", **end}]})
    chunks.append(chunk | {"choices": [], "usage": answer.get("usage")})
    return b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in chunks) + b"data: [DONE]\n\n"
