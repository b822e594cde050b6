"""Which metrics and judges a line gets: those that are named, else all that it has the fields for."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pf_mlflow.errors import BadInput
from pf_mlflow.scoring.custom import is_custom, load
from pf_mlflow.scoring.heuristics import HEURISTICS
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.metric import Metric

if TYPE_CHECKING:
    from pf_mlflow.scoring.judges.judge import Judge

__all__ = ["chosen_metrics", "known_metrics", "parse_metrics", "register"]

_known = {metric.name: metric for metric in HEURISTICS}


def register(metric: Metric) -> None:
    """Make a metric known by its name, in place of one that had this name."""
    _known[metric.name] = metric


def known_metrics() -> tuple[Metric, ...]:
    """Return all metrics that have a name of their own and need no model."""
    return tuple(_known.values())


def parse_metrics(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the metrics that a setting names, each once; `None` where it names none and the default holds.

    Args:
        value: Names and files, as a list, as a JSON list, or in a text with commas or spaces between them.

    Raises:
        BadInput: it is neither.
    """
    entries = _entries(value)
    names = [entry.strip() for entry in entries if isinstance(entry, str)]
    if len(names) != len(entries):
        raise BadInput(f"metrics={value!r} cannot be used: each metric must be a text.")
    return tuple(dict.fromkeys(name for name in names if name)) or None


def _entries(value: str | Sequence[str] | None) -> Sequence[object]:
    if value is None or isinstance(value, (list, tuple)):
        return value or ()
    if not isinstance(value, str):
        raise BadInput(f"metrics={value!r} cannot be used: write a list of metrics.")
    if not value.lstrip().startswith("["):
        return re.split(r"[,\s]+", value)
    try:
        return list(json.loads(value))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"metrics={value!r} cannot be used: it begins as a JSON list but is none: {error}.") from error


def chosen_metrics(
    fields: LineFields,
    metrics: str | Sequence[str] | None = None,
    folders: Sequence[str | Path] = (),
    with_judges: bool = False,
) -> tuple[Metric | Judge, ...]:
    """Return the metrics to run on a line, those that are judges among them.

    Args:
        fields: The line.
        metrics: Names and files, as `parse_metrics` takes them; by default all that the line has the fields for.
        folders: Where files are looked for.
        with_judges: Whether there is a model to ask.

    Raises:
        BadInput: a name is unknown or a judge's without a model, a file cannot be loaded, or two have the same name.
    """
    names = parse_metrics(metrics)
    if names is None:
        chosen = [(metric.name, metric) for metric in _default_metrics(fields, with_judges)]
    else:
        find = _metric_or_judge if with_judges else _metric
        chosen = [(name, find(name, folders)) for name in names]
    by_name: dict[str, tuple[str, Metric | Judge]] = {}
    for entry, metric in chosen:
        other = by_name.setdefault(metric.name, (entry, metric))
        if other[1] is not metric:
            raise BadInput(_same_name(other, (entry, metric)))
    return tuple(metric for _, metric in by_name.values())


def _default_metrics(fields: LineFields, with_judges: bool) -> Sequence[Metric | Judge]:
    metrics = [metric for metric in known_metrics() if metric.by_default and metric.why_not(fields) is None]
    if not with_judges:
        return metrics
    from pf_mlflow.scoring.judges.builtin import default_judges

    return [*metrics, *default_judges(fields)]


def _metric_or_judge(entry: str, folders: Sequence[str | Path]) -> Metric | Judge:
    from pf_mlflow.scoring.judges.custom import is_judge, load_judge

    return load_judge(entry, folders) if is_judge(entry) else _metric(entry, folders)


def _metric(entry: str, folders: Sequence[str | Path]) -> Metric:
    if is_custom(entry):
        return load(entry, folders)
    if entry in _known:
        return _known[entry]
    from pf_mlflow.scoring.judges.custom import is_judge

    if is_judge(entry):
        raise BadInput(
            f"{entry} is a judge and needs a model: --judge-model MODEL, or the input `judge_model` of the flow."
        )
    raise BadInput(_unknown(entry))


def _unknown(name: str) -> str:
    from pf_mlflow.scoring.judges.builtin import JUDGES

    names = [*_known, *JUDGES]
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    meant = next((f"; did you mean {known}?" for known in names if close and known.lower() == close[0]), ".")
    judges = f"with --judge-model also {', '.join(JUDGES)}"
    return f"There is no metric {name!r}{meant} Known are {', '.join(_known)}, files as path/to/file.py, and {judges}."


def _same_name(one: tuple[str, Metric | Judge], other: tuple[str, Metric | Judge]) -> str:
    kinds = {isinstance(metric, Metric) for _, metric in (one, other)}
    if len(kinds) == 2:
        return f"A judge and a metric are both named {one[1].name!r}: rename one."
    rename = "the function of one" if True in kinds else "one"
    return f"{one[0]} and {other[0]} are both named {one[1].name}: rename {rename}."
