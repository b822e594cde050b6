"""A labelled set for whatever masks secrets: 200 texts with a secret and 2,000 without, half of them kept unseen.

The templates in `secret_set.json` were written by hand, without a look at any rule. Slots stand between guillemets:
`«S»` the secret, `«name»` something of `MATERIALS`, `«a|b|c»` one of the choices.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.secret_material import MATERIALS, RANDOM

__all__ = ["halves"]

Row = dict[str, Any]
_SEEDS = {"seen": 41001, "unseen": 77003}
_ORDINARY = {"en": 334, "ja": 333, "code": 333}
"""Ordinary texts of a half by language."""
_WITH_ENVIRONMENT = 24
"""Of them in each language, those of which a word is the value of a variable with a secret's name."""
_LONG = {"en": " ", "ja": "", "code": "\n\n"}
"""What stands between the short texts of which a long one is made."""
_LONG_ONES = 4
_SLOT = re.compile("«([^»]*)»")


def halves() -> dict[str, list[Row]]:
    """Return the rows of both halves, `seen` and `unseen`: the same ones at each call."""
    templates = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    texts: set[str] = set()
    made = {half: _half(templates, half, texts) for half in _SEEDS}
    for rows in made.values():
        _check(rows)
    return made


def _half(templates: Mapping[str, Any], half: str, texts: set[str]) -> list[Row]:
    RANDOM.seed(_SEEDS[half])
    rows = [_with_secret(template) for template in templates["secrets"][half]]
    texts.update(row["text"] for row in rows)
    for language, count in _ORDINARY.items():
        named = [row for row in templates["ordinary_with_environment"][half] if row["language"] == language]
        plain = [{"text": text, "language": language} for text in templates["ordinary"][language][half]]
        rows += _ordinary(named, _WITH_ENVIRONMENT, texts)
        rows += _ordinary(plain, count - _WITH_ENVIRONMENT - _LONG_ONES, texts)
        rows += _long([row["text"] for row in plain], language, texts)
    RANDOM.shuffle(rows)
    return rows


def _filled(template: str, secret: str = "") -> str:
    def value(slot: re.Match[str]) -> str:
        if slot[1] == "S":
            return secret
        return RANDOM.choice(slot[1].split("|")) if "|" in slot[1] else MATERIALS[slot[1]]()

    return _SLOT.sub(value, template)


def _with_secret(template: Row) -> Row:
    secret = MATERIALS[template["material"]]()
    row: Row = {"kind": "secret", "text": _filled(template["text"], secret), "secret": secret, "type": template["type"]}
    if "environment" in template:
        row["environment"] = {name: _filled(value, secret) for name, value in template["environment"].items()}
    if "connection" in template:
        row["connection"] = [_filled(value, secret) for value in template["connection"]]
    return row


def _ordinary(templates: Sequence[Row], count: int, texts: set[str]) -> list[Row]:
    """Return rows from templates in turn, of each text one."""
    rows: list[Row] = []
    order = list(range(len(templates)))
    while len(rows) < count:
        RANDOM.shuffle(order)
        for template in (templates[at] for at in order):
            if len(rows) == count:
                break
            text = _filled(template["text"])
            if text not in texts and 20 <= len(text) <= 3000:
                texts.add(text)
                rows.append({**template, "kind": "ordinary", "text": text})
    return rows


def _long(templates: Sequence[str], language: str, texts: set[str]) -> Iterator[Row]:
    for number in range(_LONG_ONES):
        text = ""
        while text in texts or not 500 <= len(text) <= 3000:
            some = RANDOM.sample(templates, 6 + 4 * number)
            text = _LONG[language].join(_filled(template) for template in some)
        texts.add(text)
        yield {"kind": "ordinary", "text": text, "language": language}


def _check(rows: Sequence[Row]) -> None:
    """Make sure that the set is what it is said to be."""
    secrets = [row for row in rows if row["kind"] == "secret"]
    ordinary = [row for row in rows if row["kind"] == "ordinary"]
    assert len({row["secret"] for row in secrets}) == len(secrets) == 100
    assert len({row["text"] for row in rows}) == len(rows) == 1100
    assert Counter(row["language"] for row in ordinary) == _ORDINARY
    for row in secrets:
        assert row["secret"] in row["text"] and len(row["secret"]) >= 10 and "«" not in row["text"], row
    for row in ordinary:
        assert not any(one["secret"] in row["text"] for one in secrets), row
        assert any(value in row["text"] for value in row.get("environment", {"": ""}).values()), row
