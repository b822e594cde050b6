"""The one thing every source yields and the projection writes: what is known about a line of a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records import known_fields
from pf_mlflow.records.masking import MASK, Secrets, is_secret_name
from pf_mlflow.records.score import Score, read_scores

__all__ = [
    "COMPLETED",
    "FAILED",
    "INTERRUPTED",
    "LineRecord",
    "SAVES",
    "Span",
    "Tokens",
    "cleaned",
    "ranges",
    "saved_scores",
]

COMPLETED = "Completed"
FAILED = "Failed"
INTERRUPTED = "LineInterrupted"
"""Error type of a line of which nothing is known but that it had started."""
SAVES = "save_scores"
"""Name of the function whose output is a line's scores."""


@dataclass(frozen=True)
class Tokens:
    """Token counts of one LLM call or of a sum of calls; `None` where the answer did not tell."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    cached: int | None = None
    """Those of the prompt that the server had from an earlier request."""

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            _add(self.prompt, other.prompt),
            _add(self.completion, other.completion),
            _add(self.total, other.total),
            _add(self.cached, other.cached),
        )


def _add(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True)
class Span:
    """One call inside a line: the flow itself, a node, or an LLM call. Times are Unix seconds."""

    id: str
    name: str
    kind: str
    """`Flow`, `LLM`, `Embedding`, `Function`, … as promptflow names it."""
    start: float
    end: float | None = None
    """`None` while the call had not ended when its line ended."""
    parent: str | None = None
    node: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    has_output: bool = False
    """Tells an output of `None` from no output."""
    error: str | None = None
    error_type: str | None = None
    tokens: Tokens | None = None
    model: str | None = None


@dataclass(frozen=True)
class LineRecord:
    """Everything known about one line of a batch. Times are Unix seconds."""

    batch_uid: str
    line_number: int
    status: str
    """`Completed` or `Failed`."""
    start: float
    end: float
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    spans: tuple[Span, ...] = ()
    named_nodes: tuple[str, ...] = ()
    """Nodes to record, as the flow author named them; empty: every node that made an LLM call."""
    llm_nodes: tuple[str, ...] = ()
    """Nodes of type `llm` that the flow declares, whether or not this line reached them."""
    run_name: str = ""
    """Name of the execution that this line was: the batch's name, or a single run's own id."""
    copied_from: str | None = None
    """Name of the batch that this line was copied from when a batch was resumed."""
    scores: tuple[Score, ...] = ()
    """What evaluators said of the line, or, in the batch of an evaluation, of the line that it scores."""

    def node_spans(self) -> dict[str, Span]:
        """Return the span of each node of the line that was started, by node name."""
        roots = {span.id for span in self.spans if span.parent is None}
        return {span.node: span for span in self.spans if span.node and span.parent in roots}

    def llm_calls(self, node: Span) -> tuple[Span, ...]:
        """Return the LLM calls below a node's span, in the order they were started."""
        calls = (span for span in self._below(node) if span.kind == "LLM")
        return tuple(sorted(calls, key=lambda call: call.start))

    def _below(self, top: Span) -> Iterator[Span]:
        for span in self.spans:
            if span.parent == top.id:
                yield span
                yield from self._below(span)

    def recorded_nodes(self) -> tuple[str, ...]:
        """Return the nodes whose values are logged, in the flow's order of execution."""
        if self.named_nodes:
            return self.named_nodes
        called = (name for name, span in self.node_spans().items() if self.llm_calls(span))
        return tuple(dict.fromkeys([*self.llm_nodes, *called]))

    def mapped(
        self,
        of_values: Callable[[Mapping[str, Any]], dict[str, Any]],
        of_value: Callable[[Any], Any],
        of_error: Callable[[str], str | None],
    ) -> LineRecord:
        """Return the record with other inputs, outputs, errors and texts of scores; numbers and times stay."""

        def span(one: Span) -> Span:
            output = of_value(one.output) if one.has_output else None
            return replace(one, inputs=of_values(one.inputs), output=output, error=one.error and of_error(one.error))

        def score(one: Score) -> Score:
            value = of_value(one.value) if isinstance(one.value, str) and one.model is None else one.value
            error = None if one.error is None else of_error(one.error) or "not told"
            return replace(one, value=value, error=error, rationale=one.rationale and of_error(one.rationale))

        return replace(
            self,
            inputs=of_values(self.inputs),
            outputs=of_values(self.outputs),
            error=self.error and of_error(self.error),
            spans=tuple(map(span, self.spans)),
            scores=tuple(map(score, self.scores)),
        )

    def to_json(self) -> str:
        """Return the record as ASCII JSON, which any database and any text can take."""
        return json.dumps(vars(self), default=_fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> LineRecord:
        """Return the record that `to_json` wrote."""
        data = json.loads(text)
        data["spans"] = tuple(_span(span) for span in data.get("spans", ()))
        data["scores"] = tuple(map(Score.from_dict, data.get("scores", ())))
        for name in ("named_nodes", "llm_nodes"):
            data[name] = tuple(data.get(name, ()))
        return cls(**known_fields(cls, data))


def _span(data: dict[str, Any]) -> Span:
    if data.get("tokens"):
        data["tokens"] = Tokens(**known_fields(Tokens, data["tokens"]))
    return Span(**known_fields(Span, data))


def _fields(value: object) -> Any:
    """Return the fields of a part of a record; unlike `dataclasses.asdict`, without copying all of it."""
    return vars(value) if isinstance(value, (Score, Span, Tokens)) else str(value)


def cleaned(record: LineRecord, content: str, secrets: Secrets) -> LineRecord:
    """Return the record as it may leave the line's process: without secrets, with `content` `none` without text.

    Args:
        record: The record.
        content: `none` puts its size in the place of every input and output, and keeps of errors only their type.
        secrets: What is known to be secret.
    """
    record = record.mapped(secrets.masked_value, secrets.masked_value, secrets.masked)
    if content != "none":
        return record
    record = record.mapped(_sizes_of, _size_of, lambda text: None)
    return replace(record, spans=tuple(replace(span, name=span.node or "") for span in record.spans))


def _sizes_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: MASK if is_secret_name(name) else _size_of(value) for name, value in values.items()}


def _size_of(value: Any) -> str:
    if isinstance(value, str):
        return f"<{len(value)} characters>"
    if isinstance(value, (Mapping, list, tuple)):
        return f"<{len(value)} items>"
    return f"<{type(value).__name__}>"


def saved_scores(spans: Iterable[Span]) -> tuple[Score, ...]:
    """Return the scores that a line's nodes saved; none from an output that is no such."""
    found: list[Score] = []
    for span in spans:
        if span.name == SAVES and span.has_output:
            try:
                found += read_scores(span.output)
            except BadInput:
                continue
    return tuple(found)


def ranges(numbers: Iterable[int]) -> str:
    """Return line numbers as text, as `0-15, 18`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)
