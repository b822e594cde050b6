"""Asks a judge's model, by a request of our own in the shape of MLflow's.

MLflow's judges (`mlflow.genai.judges.make_judge`) would do the asking, and send the same: two messages and a strict
JSON schema of verdict and rationale, left out where a server does not know such. But of mlflow 3.15 each request waits
as long as an environment variable says (300 s), is sent up to eleven times in a row whatever `Retry-After` asks for,
and to import it costs a process that executes lines 3 s and 140 MB. None of it can be set by the call.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from pf_mlflow.scoring.judges.endpoint import Endpoint
from pf_mlflow.scoring.judges.judge import Question
from pf_mlflow.settings import OFFLINE_MODEL, JudgeSettings

__all__ = ["Asking", "NoReply", "Reply"]

_LONGEST_WAIT = 60.0
"""Seconds; who asks for more patience is not asked again."""
_LAST_WAIT = 8.0
"""Seconds that the waits between tries grow to where the server asks for none."""
_NO_SCHEMA = ("response_format", "json_schema", "structured output")
"""What a server speaks of that does not know them, as MLflow looks for it too."""
_TOLD = 300


class NoReply(Exception):
    """A judge's model gave no answer; the message says why."""


class _Again(Exception):
    """It did not answer now, and may do so later."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class Reply:
    """What a model said; tokens are `None` where it did not tell."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Asking:
    """Asks one model. Safe for threads; not for forks, after which a new one is made."""

    def __init__(self, endpoint: Endpoint, settings: JudgeSettings) -> None:
        self.endpoint = endpoint
        self._settings = settings
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.requests)
        self._client = httpx.Client(timeout=settings.timeout, limits=limits)
        self._knows_schemas = True

    def ask(self, question: Question) -> Reply:
        """Return the reply to a question.

        Raises:
            NoReply: there is none within the time and the tries allowed.
        """
        tries = 1 + self._settings.retries
        for number in range(1, tries + 1):
            try:
                return self._once(question)
            except _Again as again:
                wait = _wait(number) if again.after is None else again.after
                if number == tries or wait > _LONGEST_WAIT:
                    asked = f"; it asks to wait {wait:.0f} s" if wait > _LONGEST_WAIT else ""
                    raise NoReply(f"{again}, {number} {'times' if number > 1 else 'time'}{asked}") from again
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _once(self, question: Question) -> Reply:
        with_schema = self._knows_schemas
        status, headers, body = self._post(question, with_schema)
        if status == 400 and with_schema and any(word in body.lower() for word in _NO_SCHEMA):
            self._knows_schemas = False
            status, headers, body = self._post(question, False)
        if status == 200:
            return self._reply(body)
        told = f"it answered {status}{self._said(body)}"
        if (status in (408, 409, 429) or status >= 500) and "insufficient_quota" not in body:
            raise _Again(told, _retry_after(headers))
        raise NoReply(told)

    def _post(self, question: Question, with_schema: bool) -> tuple[int, Mapping[str, str], str]:
        body: dict[str, Any] = {"messages": list(question.messages)}
        if self.endpoint.names_model:
            body["model"] = self.endpoint.model
        if with_schema:
            body["response_format"] = question.response_format
        patience, started = self._settings.timeout, time.monotonic()
        try:
            with self._client.stream("POST", self.endpoint.url, json=body, headers=self.endpoint.headers()) as answer:
                parts = []
                for part in answer.iter_bytes():
                    parts.append(part)
                    if time.monotonic() - started > patience:
                        raise httpx.ReadTimeout("the answer trickles in")
                return answer.status_code, answer.headers, b"".join(parts).decode("utf-8", "replace")
        except httpx.TimeoutException as error:
            raise NoReply(f"it did not answer within {patience:g} s") from error
        except httpx.LocalProtocolError as error:  # which would show the key
            raise NoReply("its key, or a header of its requests, holds what no header may") from error
        except httpx.TransportError as error:
            raise _Again(
                f"it cannot be reached ({self.endpoint.masked(str(error)) or type(error).__name__})"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoReply(f"it cannot be asked ({self.endpoint.masked(str(error))})") from error

    def _reply(self, body: str) -> Reply:
        try:
            told = json.loads(body)
            choice = told["choices"][0]
            message, usage = choice["message"], told.get("usage") or {}
            tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NoReply(f"it answered what is no chat completion{self._said(body)}") from error
        if told.get("model") == OFFLINE_MODEL:
            raise NoReply("the built-in offline model is no judge")
        if message.get("refusal"):
            raise NoReply(f"it refused: {self.endpoint.masked(str(message['refusal']))[:_TOLD]}")
        return Reply(_text(message.get("content")), *tokens)

    def _said(self, body: str) -> str:
        """Return what a server said of an error."""
        try:
            told = json.loads(body)["error"]
            said = told["message"] if isinstance(told, dict) else told
        except (ValueError, LookupError, TypeError):
            said = body
        text = " ".join(self.endpoint.masked(str(said)).split())
        return f": {text[:_TOLD]}" if text else ""


def _text(content: Any) -> str:
    """Return a message's content, which may come in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _wait(tries: int) -> float:
    return float(min(_LAST_WAIT, 2.0 ** (tries - 1))) * random.uniform(0.5, 1.0)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, told in seconds or as a date."""
    told = headers.get("retry-after", "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
