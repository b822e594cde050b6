"""The views of an experiment by which MLflow's pages show its batches and their lines. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pf_mlflow.projection.line_payload import is_model_setting
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.scoring.sums import VERSION
from pf_mlflow.tracking.known_run import KIND, KnownRun
from pf_mlflow.tracking.links import ANSWERS_VIEW, BATCHES_VIEW, CHARTS_VIEW, LINES_VIEW

__all__ = ["NO_MERIT", "View", "first_view", "mean_scores", "shared_views"]

View = tuple[str, Mapping[str, Any]]
"""Its name and its state, as MLflow's page keeps it."""

_SCORES = 3
"""How many scores of a batch are shown, besides the share of lines that pass."""
_MOST_SCORES = 6
"""How many scores the batches of an experiment are shown with."""
_PASS_RATE = "overall/pass_rate"
_FORMULAS = ("token_f1", "exact_match", "rougeL", "rouge1", "rouge2", "bleu")
"""Those that compare with the right answer, the most telling first; one's own and judges' come before them."""
NO_MERIT = ("answer_length", "ari_grade_level", "flesch_kincaid_grade_level")
"""Formulas of which more is not better, nor less."""
_IS_BATCH = f"tags.`{KIND}` = 'batch'"
_NEWEST_FIRST, _BY_LINE = ("attributes.start_time", False), ("attributes.run_name", True)
_OF_BATCH: Mapping[str, Callable[[str], bool]] = {
    "variant": lambda key: key == "params.`variant`",
    "lines": lambda key: key.startswith("metrics.`lines_"),
    "scores": lambda key: key.endswith((f"{VERSION}/mean`", f"{_PASS_RATE}`")),
    "numbers": lambda key: True,
}
"""Columns of a batch by what they tell, in order."""
_WIDTHS = {
    **{"params.`variant`": 130, "params.`output`": 270, "params.": 180, "tags.": 180},
    **{
        "metrics.`lines_": 85,
        "metrics.`total_tokens`": 95,
        "metrics.`duration": 95,
        "metrics.`cost`": 85,
        "metrics.": 115,
    },
}
"""Of columns in pixels, by how their keys begin."""


def first_view() -> dict[str, View]:
    """Return the view that links lead to while there has been no batch that could say more."""
    return {BATCHES_VIEW: _batches([*_metrics("lines_total", "lines_failed", "duration/p50", "total_tokens")])}


def shared_views(
    parent: KnownRun, summary: BatchSummary, columns: Iterable[str], shown: Mapping[str, Mapping[str, Any]]
) -> dict[str, View]:
    """Return name and state of each view by its key.

    Args:
        parent: The newest batch's run.
        summary: Its sums.
        columns: Names of what its lines show.
        shown: States of the views as they are. Columns of earlier batches stay.
    """
    columns = list(columns)
    of_batch, of_line = _of_batch(parent, summary, shown.get(BATCHES_VIEW, {})), _of_line(summary, columns)
    of_newest = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    answers = ["params.`run_display_name`", *of_line]
    return {
        BATCHES_VIEW: _batches(of_batch),
        CHARTS_VIEW: ("Charts", {**_state(_IS_BATCH, of_batch, _NEWEST_FIRST), **_charts(of_batch)}),
        LINES_VIEW: ("Lines of the newest batch", _state(of_newest, of_line, _BY_LINE)),
        ANSWERS_VIEW: ("Answers side by side", _state(f"tags.`{KIND}` = 'line'", answers, _BY_LINE)),
    }


def mean_scores(summary: BatchSummary) -> list[str]:
    """Return the metrics that tell most of a batch's scores: the share of lines that pass, the first means."""
    means = [name for name in summary.scores if name.endswith(f"{VERSION}/mean")]
    means.sort(key=lambda name: _rank(name.removesuffix(f"{VERSION}/mean")))
    return [name for name in (_PASS_RATE,) if name in summary.scores] + means[:_SCORES]


def _rank(score: str) -> int:
    order = ("", *_FORMULAS, *NO_MERIT)
    return order.index(score) if score in order else 0


def _batches(columns: list[str]) -> View:
    return "Batches", _state(_IS_BATCH, columns, _NEWEST_FIRST)


def _of_batch(parent: KnownRun, summary: BatchSummary, before: Mapping[str, Any]) -> list[str]:
    variant = ["params.`variant`"] if "variant" in parent.values.params else []
    costs = ["cost"] if summary.costs else []
    numbers = ["lines_total", "lines_failed", *mean_scores(summary), "duration/p50", "total_tokens", *costs]
    columns = dict.fromkeys([*variant, *_metrics(*numbers), *before.get("columnOrder", [])])
    kinds: dict[str, list[str]] = {kind: [] for kind in _OF_BATCH}
    for key in columns:
        kinds[next(kind for kind, fits in _OF_BATCH.items() if fits(key))].append(key)
    kinds["scores"] = kinds["scores"][:_MOST_SCORES]
    return [key for keys in kinds.values() for key in keys]


def _of_line(summary: BatchSummary, columns: Sequence[str]) -> list[str]:
    asked = [name for name in columns if name.startswith("input_") and not is_model_setting(name[len("input_") :])]
    scores = [name for mean in mean_scores(summary) if (name := mean.rpartition("/")[0]) in columns]
    found = [f"params.`{name}`" for name in [*asked[:_SCORES], "output"] if name in columns]
    found += ["tags.`expected`"] if "expected" in columns else []
    return found + _metrics(*scores, *(name for name in ("duration", "total_tokens", "cost") if name in columns))


def _metrics(*names: str) -> list[str]:
    return [f"metrics.`{name}`" for name in names]


def _state(where: str, columns: list[str], order: tuple[str, bool]) -> dict[str, Any]:
    return {
        "searchFilter": where,
        "orderByKey": order[0],
        "orderByAsc": order[1],
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {key: next(px for start, px in _WIDTHS.items() if key.startswith(start)) for key in columns},
        "runsHiddenMode": "SHOW_ALL",
    }


def _charts(columns: Sequence[str]) -> dict[str, Any]:
    """Return the five charts that matter of batches with these columns, as MLflow's page keeps them."""
    scores = [key[len("metrics.`") : -1] for key in columns if _OF_BATCH["scores"](key)]
    price = "cost" if "metrics.`cost`" in columns else "total_tokens"
    bars = {
        scores[0] if scores else "lines_completed": "",
        "lines_failed": "Failed lines",
        "duration/p50": "Median seconds",
        price: "Dollars" if price == "cost" else "Tokens",
    }
    made = {"deleted": False, "isGenerated": False}
    charts: list[dict[str, Any]] = [
        {**made, "uuid": f"bar_{number}", "type": "BAR", "metricKey": key, "displayName": name or key}
        for number, (key, name) in enumerate(bars.items())
    ]
    axes = {"xaxis": price, "yaxis": scores[0] if scores else "duration/p50"}
    scatter = {name: {"key": key, "type": "METRIC"} for name, key in axes.items()}
    charts.append({**made, "uuid": "scatter", "type": "SCATTER", "runsCountToCompare": 100, **scatter})
    section = {"uuid": "batches", "name": "Batches", "display": True, "isReordered": True, **made}
    return {
        "compareRunCharts": [{**chart, "metricSectionId": "batches"} for chart in charts],
        "compareRunSections": [section],
        "isAccordionReordered": True,
    }
