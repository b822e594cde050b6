"""The schemas of what commands print with `--json`; every such output in any test is held against its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

__all__ = ["SCHEMAS", "check_json", "schema", "validator"]

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"


def check_json(words: Sequence[str], printed: str) -> None:
    """Fail if a command of ours was to print JSON, and printed what its schema does not say."""
    if "--json" in words and printed.strip():
        told = json.loads(printed, parse_constant=lambda name: f"no JSON: {name}")
        validator(told["schema"]).validate(told)


@cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks an output, which may have nothing that its schema does not describe."""
    return Draft202012Validator(_closed(schema(name)))


def schema(name: str) -> dict[str, Any]:
    """Return the schema that an output names."""
    _, kind, version = name.split("/")
    return dict(json.loads((SCHEMAS / f"{kind}.{version}.json").read_text("utf-8")))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    return (
        {"additionalProperties": False, **closed}
        if isinstance(node.get("properties"), dict) and "type" in node
        else closed
    )
