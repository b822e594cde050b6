"""A model that costs little to serve, and tells when it was asked: one thread, answers made by hand.

It speaks OpenAI's chat protocol over connections that are kept, and takes the seconds that `[[latency=…]]` in the
last message says. `GET /told` tells what it was asked since the last `POST /forget`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from typing import Any

from fake_llm import DIRECTIVE, GOOD_USAGE

__all__ = ["Told", "forget", "serve", "told"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"
_BACKLOG = 1024


@dataclass
class Told:
    """What the model was asked: when, in seconds since the epoch, and how many requests it had in work at most."""

    asked: list[float] = field(default_factory=list)
    in_work: int = 0
    most_in_work: int = 0


class _Connection(asyncio.Protocol):
    """One client; a request is answered as a whole, later ones of the same connection wait in the buffer."""

    def __init__(self, model: _Model) -> None:
        self._model = model
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while request := self._next():
            self._take(*request)

    def _next(self) -> tuple[bytes, bytes] | None:
        """Take a whole request from the buffer: its first line and its body."""
        head, end, rest = self._buffer.partition(_END_OF_HEAD)
        told_length = _LENGTH.search(head)
        length = int(told_length.group(1)) if told_length else 0
        if not end or len(rest) < length:
            return None
        self._buffer = rest[length:]
        return head.partition(b"\r\n")[0], rest[:length]

    def _take(self, first_line: bytes, body: bytes) -> None:
        if first_line.startswith(b"POST /forget"):
            self._model.told = Told()
            self._answer({})
        elif first_line.startswith(b"GET"):
            self._answer(asdict(self._model.told))
        else:
            self._ask(json.loads(body))

    def _ask(self, request: dict[str, Any]) -> None:
        self._model.begin()
        prompt = _text(request["messages"][-1]["content"])
        latency = float(dict(DIRECTIVE.findall(prompt)).get("latency", 0))
        asyncio.get_running_loop().call_later(latency, self._say, f"a joke about {prompt.strip()}")

    def _say(self, text: str) -> None:
        self._model.end()
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake-1"}
        self._answer(answer | {"choices": [choice], "usage": GOOD_USAGE})

    def _answer(self, answer: dict[str, Any]) -> None:
        if self._transport is None:  # the client is gone
            return
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


class _Model:
    """What all connections share."""

    def __init__(self) -> None:
        self.told = Told()

    def begin(self) -> None:
        self.told.asked.append(time.time())
        self.told.in_work += 1
        self.told.most_in_work = max(self.told.most_in_work, self.told.in_work)

    def end(self) -> None:
        self.told.in_work -= 1


def serve() -> None:
    """Print the address and serve until nobody holds the other end of standard input any more."""
    asyncio.run(_serve())


async def _serve() -> None:
    model = _Model()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(model), "127.0.0.1", 0, backlog=_BACKLOG)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


def told(base_url: str) -> Told:
    """Ask a model what it was asked."""
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/told") as answer:
        return Told(**json.load(answer))


def forget(base_url: str) -> None:
    """Have a model forget what it was asked so far."""
    request = urllib.request.Request(base_url.removesuffix("/v1") + "/forget", method="POST")
    urllib.request.urlopen(request).close()


def _text(content: str | list[dict[str, Any]]) -> str:
    """Return a message's text, which some clients send in parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
