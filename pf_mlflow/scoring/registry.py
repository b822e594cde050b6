"""Which metrics a line gets: those that are named, else all that it has the fields for."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from pf_mlflow.errors import BadInput
from pf_mlflow.scoring.custom import is_custom, load
from pf_mlflow.scoring.heuristics import HEURISTICS
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.metric import Metric

__all__ = ["chosen_metrics", "known_metrics", "parse_metrics", "register"]

_known = {metric.name: metric for metric in HEURISTICS}


def register(metric: Metric) -> None:
    """Make a metric known by its name, in place of one that had this name."""
    _known[metric.name] = metric


def known_metrics() -> tuple[Metric, ...]:
    """Return all metrics that have a name of their own."""
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
    fields: LineFields, metrics: Sequence[str] | None = None, folders: Sequence[str | Path] = ()
) -> tuple[Metric, ...]:
    """Return the metrics to run on a line.

    Args:
        fields: The line.
        metrics: Names and files; by default all known metrics that the line has the fields for.
        folders: Where files are looked for.

    Raises:
        BadInput: a name is unknown, a file cannot be loaded, or two metrics have the same name.
    """
    if metrics is None:
        return tuple(metric for metric in known_metrics() if metric.by_default and metric.why_not(fields) is None)
    by_name: dict[str, tuple[str, Metric]] = {}
    for entry in metrics:
        metric = load(entry, folders) if is_custom(entry) else _named(entry)
        other, _ = by_name.setdefault(metric.name, (entry, metric))
        if other != entry:
            raise BadInput(f"{other} and {entry} are both named {metric.name}: rename the function of one.")
    return tuple(metric for _, metric in by_name.values())


def _named(name: str) -> Metric:
    if name in _known:
        return _known[name]
    from pf_mlflow.scoring.judges.registry import is_judge

    if is_judge(name):
        raise BadInput(
            f"{name} is a judge and needs a model: --judge-model MODEL, or the input `judge_model` of the flow."
        )
    close = difflib.get_close_matches(name.lower(), {known.lower(): known for known in _known}, n=1)
    meant = next((f"; did you mean {known}?" for known in _known if close and known.lower() == close[0]), ".")
    raise BadInput(f"There is no metric {name!r}{meant} Known are {', '.join(_known)}, and files as path/to/file.py.")
