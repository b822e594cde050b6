"""Lines of the flows `kinds`, `plain_flex` and `streaming`, with the output or the error type that MLflow shows."""

from __future__ import annotations

import json
from typing import Any

MESSAGE = json.dumps(
    {"content": "a joke about atom", "refusal": None, "role": "assistant"}
    | dict.fromkeys(["annotations", "audio", "function_call", "tool_calls"])
)
"""The output of a node that asked a model: it is shown though it is no output of the flow."""
NO_JSON = "FlowOutputUnserializable"
KINDS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "plain": ({"kind": "text"}, "text", None),
    "a date": ({"kind": "date"}, None, NO_JSON),
    "a date within": ({"kind": "deep"}, None, NO_JSON),
    "an answer's message": ({"kind": "message"}, MESSAGE, NO_JSON),
    "bytes": ({"kind": "bytes"}, None, NO_JSON),
    "a stream": ({"kind": "stream"}, "Hello", None),
    "a tuple": ({"kind": "tuple"}, '[1, "two"]', None),
    "none": ({"kind": "none"}, "None", None),
    "infinity": ({"kind": "infinite"}, "inf", None),
    "an error": ({"kind": "boom"}, None, "IndexError"),
    "no bool": ({"kind": "text", "sure": "maybe"}, None, "InputTypeError"),
    "null": ({"kind": "text", "sure": None}, None, "InputTypeError"),
}
FLEX: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "plain": ({"kind": "text"}, "text", None),
    "a date": ({"kind": "date"}, None, NO_JSON),
    "a stream": ({"kind": "stream"}, "Hello", None),
    "a traced stream": ({"kind": "traced stream"}, "Hello", None),
    "a dict": ({"kind": "dict"}, "Hello", None),
    "a dict with a number of its own": ({"kind": "numbered dict"}, "Hello", None),
    "a stream in a dict": ({"kind": "dict with a stream"}, "Hello", None),
    "a dataclass": ({"kind": "dataclass"}, "Hello", None),
    "a list": ({"kind": "list"}, '["Hel", "lo"]', None),
    "none": ({"kind": "none"}, "None", None),
    "an error": ({"kind": "boom"}, None, "IndexError"),
    "left": ({"kind": "exit"}, None, "SystemExit"),
    "no number": ({"kind": "text", "count": "many"}, None, "InputTypeError"),
}
STREAMS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "whole": ({"kind": "whole"}, "Hello", None),
    "broken": ({"kind": "broken"}, None, "ConnectionError"),
    "broken in a dict": ({"kind": "broken dict"}, None, "ConnectionError"),
    "left": ({"kind": "left"}, None, "SystemExit"),
    "a plain one": ({"kind": "plain"}, "Hello", None),
    "a plain one, broken": ({"kind": "plain broken"}, None, "ConnectionError"),
    "whole in a dict": ({"kind": "dict"}, "Hello", None),
}
