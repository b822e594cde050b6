"""Which judges a line gets, and its scores by them and by the metrics that are no judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.logs import warn_once
from pf_mlflow.records.score import Score
from pf_mlflow.scoring.judges.builtin import JUDGES, default_judges
from pf_mlflow.scoring.judges.custom import is_judge_file, load_judge
from pf_mlflow.scoring.judges.endpoint import is_offline
from pf_mlflow.scoring.judges.judge import Judge
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.metric import Metric
from pf_mlflow.scoring.registry import chosen_metrics, parse_metrics
from pf_mlflow.settings import read_judge_settings

__all__ = ["SKIPPED", "check_metrics", "chosen_judges", "is_judge", "judged_line", "split_metrics"]

SKIPPED = "The built-in offline model is no judge: no judge was asked; name a connection to a real model."


def judged_line(
    fields: LineFields,
    metrics: str | Sequence[str] | None,
    model: str,
    connection: Any,
    folders: Sequence[str | Path] = (),
) -> list[Score]:
    """Return the scores of a line, those of judges last; whatever goes wrong in one is the error of its score.

    Args:
        fields: The line.
        metrics: Metrics and judges, as `parse_metrics` takes them; by default those that the line has the fields for.
        model: The judges' model; on Azure the deployment.
        connection: promptflow's OpenAI or Azure OpenAI connection. That to the offline model skips all judges.
        folders: Where files are looked for.

    Raises:
        BadInput: a metric, a judge, the connection or a setting cannot be used.
    """
    names, others = split_metrics(metrics)
    judges = default_judges(fields) if names is None else chosen_judges(names, folders)
    metrics_too = chosen_metrics(fields, others, folders)
    _check_names(judges, metrics_too)
    scores = [metric.score(fields) for metric in metrics_too]
    if is_offline(connection, model):
        warn_once(SKIPPED)
        return scores
    from pf_mlflow.scoring.judges.panel import panel_of

    return scores + panel_of(connection, model).scores(fields, judges)


def is_judge(name: str) -> bool:
    """Say whether an entry of the metrics is a judge."""
    return name in JUDGES or is_judge_file(name)


def split_metrics(
    metrics: str | Sequence[str] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]] | tuple[None, None]:
    """Return the judges among what is named, and the rest; `None` for both where nothing is named."""
    named = parse_metrics(metrics)
    if named is None:
        return None, None
    judges = tuple(filter(is_judge, named))
    return judges, tuple(name for name in named if name not in judges)


def chosen_judges(names: Sequence[str], folders: Sequence[str | Path] = ()) -> tuple[Judge, ...]:
    """Return judges by their names and files.

    Raises:
        BadInput: a file is no judge, or two have the same name.
    """
    by_name: dict[str, str] = {}
    judges = []
    for entry in names:
        judge = JUDGES[entry] if entry in JUDGES else load_judge(entry, tuple(folders))
        if (other := by_name.setdefault(judge.name, entry)) != entry:
            raise BadInput(f"{other} and {entry} are both named {judge.name}: rename one.")
        judges.append(judge)
    return tuple(judges)


def check_metrics(metrics: Sequence[str], folders: Sequence[str | Path] = ()) -> None:
    """Say before a batch what each of its lines would fail by.

    Raises:
        BadInput: a metric or a judge is unknown or cannot be loaded, or a setting of judges cannot be used.
    """
    judges, others = split_metrics(metrics)
    _check_names(chosen_judges(judges or (), folders), chosen_metrics(LineFields(), others, folders))
    read_judge_settings()


def _check_names(judges: Sequence[Judge], metrics: Sequence[Metric]) -> None:
    if both := {judge.name for judge in judges} & {metric.name for metric in metrics}:
        raise BadInput(f"A judge and a metric are both named {min(both)!r}: rename one.")
