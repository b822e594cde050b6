"""The numbers of a batch: counts, token sums and latency percentiles of its lines."""

from __future__ import annotations

import json
import math
from array import array
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pf_mlflow.projection.cost import COSTS
from pf_mlflow.projection.line_payload import is_model_setting
from pf_mlflow.projection.line_verdicts import LineVerdicts
from pf_mlflow.projection.score_payload import scores_of
from pf_mlflow.records import known_fields
from pf_mlflow.records.keys import valid_key
from pf_mlflow.records.offline_model import OFFLINE_MODEL
from pf_mlflow.records.score import Score
from pf_mlflow.records.statistics import mean, percentile
from pf_mlflow.scoring.sums import ScoreSums, evaluated
from pf_mlflow.tracking.run_payload import RunPayload

__all__ = ["BatchSummary", "LineStats", "Tally"]

_PERCENTILES = (50, 90, 99)
_SLOWEST = 5
_WORST = 10


@dataclass(frozen=True)
class LineStats:
    """The numbers of one line; `None` where unknown. Durations in seconds."""

    line_number: int
    completed: bool
    duration: float | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    label: str = ""
    error: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Those that are numbers, by name."""
    other_scores: int = 0
    """How many are not."""
    failed_scores: tuple[str, ...] = ()
    verdicts: LineVerdicts | None = None
    """What judges said; `None` where none was asked."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What it cost as a whole and by parts, by metric; empty where that is not known."""
    model: str = ""
    """Which models answered."""

    @classmethod
    def of(cls, line_number: int, payload: RunPayload, scores: Iterable[Score] = ()) -> LineStats:
        """Return the numbers of a line as its child run shows them, and those of its scores.

        The duration is the node's where one node is recorded, else the line's.
        """
        metrics = payload.metrics
        by_name = {(valid_key(score.name), score.is_judged): score for score in scores}
        prompt, completion, total = (metrics.get(f"{kind}_tokens") for kind in ("prompt", "completion", "total"))
        return cls(
            line_number,
            payload.status == "FINISHED",
            metrics.get("duration", metrics.get("line_duration")),
            _int(prompt),
            _int(completion),
            _int(total),
            _label(payload.params)[:60],
            payload.tags.get("promptflow.error", "")[:300] or None,
            {name: score.number for (name, _), score in by_name.items() if score.number is not None},
            sum(score.text is not None and not score.is_joint for score in by_name.values()),
            tuple(name for (name, judged), score in by_name.items() if score.error is not None and not judged),
            LineVerdicts.of(by_name.values()),
            {name: metrics[name] for name in COSTS if name in metrics},
            payload.tags.get("response_model", ""),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LineStats:
        """Return what was written as JSON, perhaps by another version."""
        verdicts, failed = data.get("verdicts"), tuple(data.get("failed_scores", ()))
        data = {**data, "failed_scores": failed, "verdicts": verdicts and LineVerdicts.from_dict(verdicts)}
        return cls(**known_fields(cls, data))


def _label(params: Mapping[str, str]) -> str:
    """Return what tells a line from others at a glance: its first input that is no setting of the model."""
    inputs = {name: name.rpartition("input_")[2] for name in params if name.split(".")[-1].startswith("input_")}
    return next((params[name] for name, short in inputs.items() if not is_model_setting(short)), "")


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)


@dataclass(frozen=True)
class BatchSummary:
    """A batch in numbers. Durations in seconds, over completed lines."""

    lines_total: int
    lines_completed: int
    lines_failed: int
    tokens: Mapping[str, int]
    durations: Mapping[str, float]
    slowest: tuple[LineStats, ...]
    failed: tuple[LineStats, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    """Metrics of an evaluation, and over how many lines it was; empty where there was none."""
    worst: tuple[LineStats, ...] = ()
    """The lines with the lowest scores, where those of one metric were asked for."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What the lines cost together, and their prompts and completions, by metric; empty where no line's is known."""
    unpriced: tuple[str, ...] = ()
    """Models of lines with tokens whose cost is not known."""
    failed_by_kind: Mapping[str, int] = field(default_factory=dict)
    """How many lines failed, by the type of their error."""

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the parent run."""
        counts = {
            "lines_total": self.lines_total,
            "lines_completed": self.lines_completed,
            "lines_failed": self.lines_failed,
        }
        durations = {f"duration/{name}": value for name, value in self.durations.items()}
        return {k: float(v) for k, v in {**counts, **self.tokens, **self.costs, **durations, **self.scores}.items()}

    def to_json(self) -> str:
        """Return the summary as JSON."""
        return json.dumps(asdict(self))

    def without_texts(self) -> BatchSummary:
        """Return it without what a line was asked or failed with, for a place that outlives the batch."""
        slowest, failed, worst = (
            tuple(replace(line, label="", error=None) for line in lines)
            for lines in (self.slowest, self.failed, self.worst)
        )
        return replace(self, slowest=slowest, failed=failed, worst=worst)

    @classmethod
    def from_json(cls, text: str) -> BatchSummary:
        """Return what `to_json` wrote, perhaps that of another version."""
        data: dict[str, Any] = json.loads(text)
        for name in ("slowest", "failed", "worst"):
            data[name] = tuple(map(LineStats.from_dict, data.get(name, ())))
        data["unpriced"] = tuple(data.get("unpriced", ()))
        return cls(**known_fields(cls, data))


class Tally:
    """Sums a batch up line by line, each once, in memory that hardly grows: a number per completed line and metric."""

    def __init__(self, most_failed: int = 20, worst_by: str = "") -> None:
        self._most_failed = most_failed
        self._worst_by = worst_by
        self._lowest: dict[str, list[LineStats]] = {}
        self._kinds: Counter[str] = Counter()
        self._scores = ScoreSums()
        self._completed = self._failed = 0
        self._durations = array("d")
        self._tokens: dict[str, int] = {}
        self._costs: dict[str, array[float]] = {}
        self._unpriced: set[str] = set()
        self._slowest: list[LineStats] = []
        self._first_failed: list[LineStats] = []

    def add_run(self, line_number: int, payload: RunPayload) -> None:
        """Count a line by what its child run shows."""
        scores = scores_of(payload)
        self.add(LineStats.of(line_number, payload, scores), scores)

    def add(self, line: LineStats, scores: Iterable[Score] = ()) -> None:
        """Count a line and its scores."""
        for kind in ("prompt_tokens", "completion_tokens", "total_tokens"):
            if (count := getattr(line, kind)) is not None:
                self._tokens[kind] = self._tokens.get(kind, 0) + count
        for kind, cost in line.costs.items():
            self._costs.setdefault(kind, array("d")).append(cost)
        if line.total_tokens and not line.costs and line.model != OFFLINE_MODEL:
            self._unpriced.add(line.model or "a model that is not named")
        if not line.completed:
            self._failed += 1
            self._kinds[(line.error or "").partition(":")[0] or "not told why"] += 1
            self._first_failed = sorted([*self._first_failed, line], key=_number)[: self._most_failed]
            return
        self._completed += 1
        self._scores.add(scores)
        for metric in line.scores:
            self._note_if_low(metric, line)
        if line.duration is not None:
            self._durations.append(line.duration)
            self._slowest = sorted([*self._slowest, line], key=lambda one: -(one.duration or 0))[:_SLOWEST]

    def _note_if_low(self, metric: str, line: LineStats) -> None:
        lowest = self._lowest.setdefault(metric, [])
        if len(lowest) < _WORST or _rank(line, metric) < _rank(lowest[-1], metric):
            insort(lowest, line, key=lambda one: _rank(one, metric))
            del lowest[_WORST:]

    def worst(self, metric: str) -> tuple[LineStats, ...]:
        """Return the lines with the lowest scores of a metric."""
        return tuple(self._lowest.get(metric, ()))

    def summary(self) -> BatchSummary:
        """Return the sums; of the failed lines the first ones by number."""
        return BatchSummary(
            self._completed + self._failed,
            self._completed,
            self._failed,
            dict(self._tokens),
            _duration_statistics(sorted(self._durations)),
            tuple(self._slowest),
            tuple(self._first_failed),
            self._evaluation(),
            self.worst(self._worst_by),
            {kind: math.fsum(costs) for kind, costs in self._costs.items()},
            tuple(sorted(self._unpriced)),
            dict(self._kinds),
        )

    def _evaluation(self) -> dict[str, float]:
        scores = self._scores.metrics()
        return scores | evaluated(self._completed + self._failed, self._scores.lines) if scores else {}


def _rank(line: LineStats, metric: str) -> tuple[float, int]:
    return line.scores[metric], line.line_number


def _number(line: LineStats) -> int:
    return line.line_number


def _duration_statistics(durations: Sequence[float]) -> dict[str, float]:
    if not durations:
        return {}
    return {"mean": mean(durations)} | {f"p{p}": percentile(durations, p) for p in _PERCENTILES}
