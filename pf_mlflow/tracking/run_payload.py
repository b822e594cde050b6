"""What is written to an MLflow run, within MLflow's limits. Needs no mlflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from pf_mlflow.records.keys import readable, valid_key
from pf_mlflow.records.masking import MASK

__all__ = [
    "LAST_OUTPUT",
    "NOT_KEPT",
    "NOT_LOGGED",
    "PARAM_LIMIT",
    "RunPayload",
    "TAG_LIMIT",
    "length_of_whole",
    "milliseconds",
    "path_of_whole",
    "requests_of",
]

PARAM_LIMIT = 6000
"""Characters that MLflow takes in a param's value (`mlflow.utils.validation.MAX_PARAM_VAL_LENGTH`)."""
TAG_LIMIT = 5000
"""Characters that every MLflow 3 takes in a tag's value."""
LAST_OUTPUT = "promptflow.output"
"""Tag of a run whose param `output`, which nobody can change, is not what promptflow kept in the end: that."""
NOT_LOGGED = "promptflow.not_logged"
"""Tag of a run whose values MLflow refused: why."""
NOT_KEPT = "promptflow.not_kept/"
"""Beginning of a run's tags that name a cut value, of which no file could keep the whole: why."""
_LARGEST = 2.0**63
"""Metrics from here on are no measurements; neither NaN nor infinity is below it."""
_LONG_VALUES = "long_values"
_SHORT = 500
"""Limit of a value from which its beginning has to be saved."""
_LONGEST_MARK = 500
"""Characters at the end of a cut value that say so, at most."""
_MOST_ENTRIES = {"params": 100, "tags": 100, "metrics": 800}
"""Values of each kind in one request: MLflow takes 100 params, 100 tags, and 1,000 of all."""
_MOST_BYTES = 700_000
"""Bytes of JSON in one request, of which MLflow takes 1 MB."""
_MOST_JSON = 12
"""Bytes that JSON takes at most for a character: two escaped surrogates."""
_FRAME = 30
"""Bytes of JSON around an entry's key and value."""


@dataclass
class RunPayload:
    """What is written to a run: `texts` are artifacts by path, `status` and times (ms) end it."""

    status: str
    start_ms: int
    end_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def without(self, known: RunPayload) -> RunPayload:
        """Return what a run that shows `known` lacks of this; what it has may be richer, and params never change."""
        lacking = replace(self)
        for kind in ("params", "metrics", "tags"):
            mine, has = getattr(self, kind), getattr(known, kind)
            setattr(lacking, kind, {key: value for key, value in mine.items() if key not in has})
        kept = set(map(path_of_whole, chain(known.params.values(), known.tags.values())))
        lacking.texts = {path: text for path, text in self.texts.items() if path not in kept}
        return lacking

    def amending(self, known: RunPayload) -> RunPayload:
        """Return this as what is written to a run that was over before: with its times, and beside an output another.

        An output in which something was masked by who knew the secrets stays.
        """
        amended = replace(self, end_ms=known.end_ms, tags=dict(self.tags), texts=dict(self.texts))
        before, now = known.params.get("output"), self.params.get("output")
        if before is not None and now is not None and before != now and MASK not in before:
            amended.add_tag(LAST_OUTPUT, self.whole("output") or "")
        return amended

    def whole(self, key: str) -> str | None:
        """Return a param as it was before it was cut."""
        value = self.params.get(key)
        return value and self.texts.get(path_of_whole(value) or "", value)

    def without_texts(self, reason: str) -> RunPayload:
        """Return this without the whole of its long values, which say why it could not be kept."""

        def told(values: Mapping[str, str]) -> dict[str, str]:
            paths = {key: path_of_whole(value) for key, value in values.items()}
            cut = {key: path for key, path in paths.items() if path in self.texts}
            lost.update(dict.fromkeys((f"{NOT_KEPT}{key}" for key in cut), reason[:TAG_LIMIT]))
            return {
                **values,
                **{k: _without(self.texts[path], len(values[k]), reason, path) for k, path in cut.items()},
            }

        lost: dict[str, str] = {}
        params, tags = told(self.params), told(self.tags)
        return replace(self, params=params, tags=tags | lost, texts={})

    def late_texts(self, known: RunPayload) -> RunPayload:
        """Return the texts that no file kept of a run which shows `known`, and its tags with them in mind.

        Only what is surely the whole of what is shown there: who made it may have masked more.
        """
        late = RunPayload("", 0, 0)
        for key in (tag.removeprefix(NOT_KEPT) for tag in known.tags if tag.startswith(NOT_KEPT)):
            shown = known.params.get(key) or known.tags.get(key, "")
            path = path_of_whole(self.params.get(key) or self.tags.get(key, ""))
            if path and _is_cut_of(shown, self.texts[path]):
                late.texts[path] = self.texts[path]
                late.tags |= {key: self.tags[key]} if key in self.tags else {}
        return late

    def add_param(self, key: str, value: Any, limit: int = PARAM_LIMIT) -> None:
        """Add a param under a name that MLflow takes; a value that is too long is cut and kept whole as a text."""
        key = _free_key(valid_key(key), self.params)
        self.params[key] = self._fitting(key, readable(value), limit)

    def add_tag(self, key: str, value: str, limit: int = TAG_LIMIT) -> None:
        """Add a tag; a value that is too long is cut and kept whole as a text."""
        self.tags[key] = self._fitting(key, readable(value), limit)

    def add_metric(self, key: str, value: float | None) -> None:
        """Add a metric unless its value is unknown: absent, not zero."""
        if value is not None and abs(value) < _LARGEST:
            self.metrics[valid_key(key)] = float(value)

    def _fitting(self, key: str, text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        path = _free_key(f"{_LONG_VALUES}/{re.sub(r'[^A-Za-z0-9._-]', '_', key)}", self.texts, ".txt")
        self.texts[path] = text
        return _cut(text, limit, f"all of them in the artifact {path}")


def _cut(text: str, limit: int, where: str) -> str:
    mark = f" … [cut: {len(text)} characters, {where}]"
    return text[: limit - len(mark)] + mark


def _without(whole: str, limit: int, reason: str, path: str) -> str:
    where = f"; once it is, in {path}" if limit > _SHORT else ""
    return _cut(whole, limit, f"whole text not kept: {reason[: min(limit // 11, 120)]}{where}")


def _is_cut_of(shown: str, whole: str) -> bool:
    beginning, mark, _ = shown.rpartition(" … [cut: ")
    return bool(mark) and length_of_whole(shown) == len(whole) and whole.startswith(beginning)


def path_of_whole(value: str) -> str | None:
    """Return the artifact that keeps the whole of a value which was cut, `None` if it was not."""
    cut = re.search(rf" … \[cut: \d+ characters, all of them in the artifact ({_LONG_VALUES}/\S+)\]$", value)
    return cut[1] if cut else None


def length_of_whole(value: str) -> int:
    """Return how many characters a value has, or had before it was cut."""
    cut = re.search(r" … \[cut: (\d+) characters", value[-_LONGEST_MARK:])
    return int(cut[1]) if cut else len(value)


def milliseconds(seconds: float) -> int:
    """Return a Unix time in the unit of MLflow's run times."""
    return round(seconds * 1000)


def requests_of(payload: RunPayload) -> Iterator[RunPayload]:
    """Split what a run is to show, but for texts, into requests that MLflow takes; none if it is nothing."""
    if _is_small(payload):
        yield payload
        return
    part, size = _part(), 0
    for kind in ("params", "tags", "metrics"):
        for key, value in getattr(payload, kind).items():
            item = len(json.dumps(key)) + len(json.dumps(value)) + _FRAME
            if size + item > _MOST_BYTES or len(getattr(part, kind)) == _MOST_ENTRIES[kind]:
                yield part
                part, size = _part(), 0
            getattr(part, kind)[key] = value
            size += item
    if size:
        yield part


def _part() -> RunPayload:
    return RunPayload("", 0, 0)


def _is_small(payload: RunPayload) -> bool:
    """Tell without much ado whether one request takes it, and it is not nothing."""
    counts = {kind: len(getattr(payload, kind)) for kind in _MOST_ENTRIES}
    texts = (*payload.params.items(), *payload.tags.items(), *((key, "") for key in payload.metrics))
    characters = sum(len(key) + len(value) for key, value in texts)
    is_small = _MOST_JSON * characters + 2 * _FRAME * len(texts) <= _MOST_BYTES
    return is_small and 0 < len(texts) and all(counts[kind] <= most for kind, most in _MOST_ENTRIES.items())


def _free_key(key: str, taken: Mapping[str, Any], suffix: str = "") -> str:
    candidates = chain([f"{key}{suffix}"], (f"{key}_{number}{suffix}" for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
