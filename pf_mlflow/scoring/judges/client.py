"""Asks a judge's model for a chat completion, by a request in the shape of those of MLflow's own judges.

Neither `mlflow.genai.judges.make_judge` nor the `openai` package can be told how long a whole reply may take, and both
heed variables of the environment that are meant for others; each costs a process that executes lines 60 MB or more.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

import httpx

from pf_mlflow.records.offline_model import OFFLINE_MODEL
from pf_mlflow.scoring.judges.endpoint import Endpoint
from pf_mlflow.scoring.judges.judge import Question
from pf_mlflow.settings.judges import JudgeSettings

__all__ = ["JudgeClient", "NoReply", "Reply"]

_LONGEST_WAIT = 60.0
"""Seconds; a server that asks for a longer wait is not asked again."""
_LAST_WAIT = 8.0
"""Seconds that the waits between tries grow to where the server asks for none."""
_NO_SCHEMA = ("response_format", "json_schema", "structured output")
"""Words in the error of a server that knows no JSON schemas, as MLflow looks for them too."""
_REFUSES_FIELD = (400, 422)
"""Statuses of a request that has what the server does not know."""
_STOPPED = {
    "length": "its reply was cut off at the most tokens that it may have",
    "content_filter": "a content filter stopped its reply",
}
"""What reasons to finish other than the reply's end mean."""
_QUOTED = 300
"""Characters of what a server said that are quoted."""


class NoReply(Exception):
    """A judge's model gave no answer; the message says why."""


class _Unavailable(NoReply):
    """It gave none now, and may give one later: after `retry_after` seconds, where the server said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Reply:
    """What a model said; tokens are `None` where the server did not count them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    unfinished: str | None = None
    """Why this is no whole reply, though it was paid for: the model refused, or was stopped."""


class JudgeClient:
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
        for tries in count(1):
            try:
                return self._ask_once(question)
            except _Unavailable as error:
                wait = _backoff(tries) if error.retry_after is None else error.retry_after
                if tries > self._settings.retries or wait > _LONGEST_WAIT:
                    why = f"; it asks to wait {wait:.0f} s" if wait > _LONGEST_WAIT else ""
                    raise NoReply(f"{error}, {tries} {'times' if tries > 1 else 'time'}{why}") from error
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _ask_once(self, question: Question) -> Reply:
        request = self._request(question)
        status, headers, body = self._post(request)
        if status == 200:
            return self._reply(body)
        if status in _REFUSES_FIELD and "response_format" in request and any(w in body.lower() for w in _NO_SCHEMA):
            self._knows_schemas = False
            return self._ask_once(question)
        if 300 <= status < 400 and (place := headers.get("Location")):  # who got the key there could be anybody
            raise NoReply(f"it answered {status} and leads to {self.endpoint.masked(place)}, which is not asked")
        message = f"it answered {status}{self._quoted(body)}"
        if (status in (408, 409, 429) or status >= 500) and "insufficient_quota" not in body:
            raise _Unavailable(message, _retry_after(headers))
        raise NoReply(message)

    def _request(self, question: Question) -> dict[str, Any]:
        model = {"model": self.endpoint.model} if self.endpoint.names_model else {}
        schema = {"response_format": question.response_format} if self._knows_schemas else {}
        return {"messages": list(question.messages), **model, **schema}

    def _post(self, request: Mapping[str, Any]) -> tuple[int, Mapping[str, str], str]:
        """Return status, headers and body of the response; the whole body must be there in time, not only each part."""
        url, headers, timeout = self.endpoint.url, self.endpoint.headers(), self._settings.timeout
        started, parts = time.monotonic(), []
        try:
            with self._client.stream("POST", url, json=request, headers=headers) as response:
                for part in response.iter_bytes():
                    parts.append(part)
                    if time.monotonic() - started > timeout:
                        raise httpx.ReadTimeout("the answer trickles in")
                return response.status_code, response.headers, b"".join(parts).decode("utf-8", "replace")
        except httpx.TimeoutException as error:
            raise NoReply(f"it did not answer within {timeout:g} s") from error
        except httpx.LocalProtocolError as error:  # its message would show the key
            raise NoReply("its key, or a header of its requests, holds what no header may") from error
        except httpx.TransportError as error:
            reason = self.endpoint.masked(str(error)) or type(error).__name__
            raise _Unavailable(f"it cannot be reached ({reason})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoReply(f"it cannot be asked ({self.endpoint.masked(str(error))})") from error

    def _reply(self, body: str) -> Reply:
        try:
            completion = json.loads(body)
            choice, usage = completion["choices"][0], completion.get("usage") or {}
            message, reason = choice["message"], choice.get("finish_reason")
            model, refusal, text = completion.get("model"), message.get("refusal"), _text(message.get("content"))
            details = usage.get("prompt_tokens_details")
            kept = details.get("cached_tokens") if isinstance(details, dict) else None
            prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NoReply(f"it answered what is no chat completion{self._quoted(body)}") from error
        if model == OFFLINE_MODEL:
            raise NoReply("the built-in offline model is no judge")
        refused = f"it refused: {self.endpoint.masked(str(refusal))[:_QUOTED]}" if refusal else None
        return Reply(text, prompt, completion, _count(kept), refused or _STOPPED.get(str(reason)))

    def _quoted(self, body: str) -> str:
        """Return what a response says of an error: its message where it is JSON, else all of it."""
        try:
            error = json.loads(body)["error"]
            message = error["message"] if isinstance(error, dict) else error
        except (ValueError, LookupError, TypeError):
            message = body
        text = " ".join(self.endpoint.masked(str(message)).split())
        return f": {text[:_QUOTED]}" if text else ""


def _text(content: Any) -> str:
    """Return a message's content, which may come in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _backoff(tries: int) -> float:
    return float(min(_LAST_WAIT, 2.0 ** (tries - 1))) * random.uniform(0.5, 1.0)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, in a header that holds seconds or a date."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(TypeError, ValueError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None
