"""A real HTTP server that speaks OpenAI's and Azure OpenAI's protocol as a judge, and does what the answer asks for.

A directive is `[[do]]` or `[[judge:do]]` in the texts to judge; the last that is meant for the judge asked counts.
`yes`, `no`, `maybe`, `4`, … are verdicts; `prose`, `told`, `fenced`, `broken`, `empty`, `two`, `parts` are ways of saying one;
`length` and `content_filter` are reasons to say one and no more;
`429`, `500`, `503`, `401`, `400`, … are statuses, `429:2` and the like only so often; `hang` waits; `refuse` refuses.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

DIRECTIVE = re.compile(r"\[\[(?:([a-z_]+):)?([\w.:/ -]+)\]\]")
TITLES = {
    "context_sufficiency": "Does the context contain everything",
    "chunk_relevance": "Does the text (context) help",
    "groundedness": "supported by the context",
    "correctness": "agree with the expected answer",
    "relevance_to_query": "address the question",
    "safety": "free of harmful content",
    "answer_similarity": "How similar in meaning",
    "answer_correctness": "How correct is the answer",
}
PROMPT_TOKENS, COMPLETION_TOKENS = 31, 5
STOPPED = ("length", "content_filter")
KEY = "sk-judge-0123456789abcdefghij"


@dataclass
class Asked:
    """A request as the server got it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def text(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def judge(self) -> str:
        return next((name for name, title in TITLES.items() if title in self.text), "custom")

    @property
    def result(self) -> dict[str, Any]:
        schema: dict[str, Any] = self.body["response_format"]["json_schema"]["schema"]["properties"]["result"]
        return schema


@dataclass
class JudgeServer:
    """The server, to be used as a context."""

    latency: float = 0.0
    schemas: bool = True
    """Whether it knows `response_format`."""
    no_schemas: int = 400
    """Status that it answers where it does not."""
    retry_after: str | None = "0.05"
    location: str = ""
    """Where it redirects to."""
    hang: float = 3.0
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> JudgeServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer._now += 1
                    outer.most_at_once = max(outer.most_at_once, outer._now)
                    told = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.monotonic())
                    outer.asked.append(told)
                try:
                    self.reply(*outer.answer(told))
                except ConnectionError:
                    pass
                finally:
                    with outer._lock:
                        outer._now -= 1

            def reply(self, status: int, body: Any) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status in (429, 503) and outer.retry_after is not None:
                    self.send_header("Retry-After", outer.retry_after)
                if 300 <= status < 400:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        self.base_url = f"{self.root}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked: Asked) -> tuple[int, Any]:
        time.sleep(self.latency)
        if not self.schemas and "response_format" in asked.body:
            told = {"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs"}
            return self.no_schemas, {"error": {"message": "Unknown: response_format."}, "detail": [told]}
        do = self.directive(asked)
        status, _, times = do.partition(":")
        if status.isdecimal() and len(status) == 3 and not (times and self._counted(asked) > int(times)):
            key = asked.headers.get("authorization", "") + asked.headers.get("api-key", "")
            message = f"Status {status} as told, key {key} and {key.removeprefix('Bearer ')}."
            return int(status), {"error": {"message": message, "code": "told"}}
        if do == "hang":
            time.sleep(self.hang)
        if do == "html":
            return 200, b"<html>a login page</html>"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content_of("yes" if status.isdecimal() and times else do),
        }
        if do == "parts":
            text = str(message["content"])
            message["content"] = [{"type": "text", "text": part} for part in (text[:9], text[9:])]
        if do == "refuse":
            message = {"role": "assistant", "content": None, "refusal": "I will not judge this."}
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "offline-model (no real LLM)" if do == "offline" else "judge-1",
            "choices": [{"index": 0, "finish_reason": do if do in STOPPED else "stop", "message": message}],
            "usage": usage | {"total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS},
        }

    def directive(self, asked: Asked) -> str:
        meant = [do for judge, do in DIRECTIVE.findall(asked.text) if judge in ("", asked.judge)]
        default = "4" if asked.judge.startswith("answer_") else "yes"
        return meant[-1] if meant else default

    def _counted(self, asked: Asked) -> int:
        with self._lock:
            self._times[asked.text] += 1
            return self._times[asked.text]


def content_of(do: str) -> str:
    """Return what the model says."""
    plain = json.dumps({"rationale": "told so", "result": "yes"})
    ways = {
        "prose": "I think that the answer is very good, yes.",
        "told": f"Let me see. Considering {{all}} of it, my verdict is:\n{plain}\nI hope this helps.",
        "fenced": f"```json\n{plain}\n```",
        "thought": f'<think>{{"result": "no"}} or not?</think>{plain}',
        "broken": '{"rationale": "told so", "result": "yes',
        "empty": "",
        "two": f'{plain} {{"result": "no"}}',
        "shout": json.dumps({"rationale": "told so", "result": " YES. "}),
        "bool": json.dumps({"rationale": "told so", "result": True}),
        "surrogate": plain.replace("told so", r"told \ud83d"),
        **dict.fromkeys(("hang", "parts", *STOPPED), plain),
        "offline": plain,
    }
    if do in ways:
        return ways[do]
    try:
        result: Any = json.loads(do)
    except ValueError:
        result = do
    return json.dumps({"rationale": f"told {do}", "result": result})
