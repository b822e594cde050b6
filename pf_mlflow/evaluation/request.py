"""What a user asks of `pf-mlflow evaluate`, and what can be checked of it without the batch that it scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pf_mlflow.errors import BadInput
from pf_mlflow.scoring import LineFields, Metric, chosen_metrics, known_metrics
from pf_mlflow.settings.judges import read_judge_settings
from pf_mlflow.sources.promptflow.flow import read_flow, saves_scores

__all__ = ["EVAL_FLOW", "EvaluationRequest", "check_needs", "metric_names", "prepared"]

EVAL_FLOW = "eval_flow"
"""Folder of the evaluation flow that comes with this package."""
_METRIC_FILE = re.compile(r"(?P<file>.+\.(?:py|ya?ml))(?P<function>:\w+)?", re.DOTALL)


@dataclass(frozen=True)
class EvaluationRequest:
    """What the user asked for: a batch to score, a file with answers, or both."""

    base: str | None = None
    flow: Path | None = None
    """The evaluation flow; `None` is the one that comes with this package."""
    data: Path | None = None
    column_mapping: Mapping[str, str] = field(default_factory=dict)
    """Where inputs come from that are not found by their names."""
    metrics: tuple[str, ...] = ()
    judge_model: str = ""
    """The model of judges, on Azure its deployment; `""` asks none."""
    judge_connection: str | None = None
    """promptflow's connection to it; `None` is `open_ai_connection`, or what stands in for it."""
    retry_errors: bool = False
    """Whether the last evaluation of the batch is run again, to ask the judges that failed."""
    name: str | None = None
    parent_run: str | None = None
    """A run of the user's that finished answers are put below, `""` for none; `None` is what the settings say."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Variables that hold where nothing else says where finished answers go."""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    concurrency: int = 32
    wait: bool = True
    """Whether to wait until MLflow has the scores."""


def prepared(request: EvaluationRequest) -> EvaluationRequest:
    """Return a request whose paths hold whatever folder the process is in, checked without the batch that it scores.

    Raises:
        BadInput: its flow or a metric cannot be used.
    """
    flow, data = (path and path.expanduser().absolute() for path in (request.flow, request.data))
    request = replace(request, flow=flow, data=data, metrics=tuple(map(_whole, request.metrics)))
    if request.flow:
        _check_saves_scores(request.flow)
    _check_metrics(request)
    return request


def metric_names(text: str) -> tuple[str, ...]:
    """Return names of metrics that stand in one text, with commas between them."""
    return tuple(name for entry in text.split(",") if (name := entry.strip()))


def _whole(metric: str) -> str:
    """Return a metric with its file's whole path: the flow runs in another folder."""
    named = _METRIC_FILE.fullmatch(metric)
    return f"{Path(named['file']).expanduser().resolve()}{named['function'] or ''}" if named else metric


def _check_saves_scores(path: Path) -> None:
    flow = read_flow(path)
    if not (flow.is_dag and saves_scores(flow.folder)):
        why = "none of its nodes has a function named `save_scores`" if flow.is_dag else "it has no nodes that could"
        raise BadInput(
            f"The evaluation flow {str(path)!r} saves no scores: {why}. "
            f"Give it one that returns `pf_mlflow.checked_scores(scores)`, as {EVAL_FLOW}/nodes/save_scores.py does."
        )


def _check_metrics(request: EvaluationRequest) -> None:
    """Raise `BadInput` for a metric or judge that there is not, or a setting of judges that cannot be used."""
    if request.judge_connection and not request.judge_model:
        raise BadInput(f"--judge-connection {request.judge_connection} asks nobody without --judge-model MODEL.")
    chosen = chosen_metrics(LineFields(), request.metrics or None, with_judges=bool(request.judge_model))
    formulas = [one for one in (chosen if request.metrics else known_metrics()) if isinstance(one, Metric)]
    if missing := [one for one in formulas if not one.is_installed]:
        names, packages = (", ".join(dict.fromkeys(words)) for words in _named(missing))
        raise BadInput(f"{names} cannot be given without {packages}: pip install {packages.replace(',', '')}")
    if request.judge_model:
        read_judge_settings()


def check_needs(request: EvaluationRequest, mapping: Mapping[str, str]) -> None:
    """Raise `BadInput` if none of the metrics that are named could be given, for want of a column."""
    if not request.metrics:
        return
    chosen = chosen_metrics(LineFields(), request.metrics, with_judges=bool(request.judge_model))
    lacking = [(one.name, name) for one in chosen for name in one.needs if name not in mapping]
    if len({name for name, _ in lacking}) == len(chosen):
        metric, field = lacking[0]
        raise BadInput(
            f"{metric} needs {field}, which neither the data nor the outputs have; name a column with "
            f"--column-mapping {field}='${{data.COLUMN}}'."
        )


def _named(metrics: Sequence[Metric]) -> tuple[list[str], list[str]]:
    return [metric.name for metric in metrics], [metric.package for metric in metrics]
