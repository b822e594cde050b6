"""How MLflow's pages show batches: views of an experiment, and a batch's description. Needs no mlflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pf_mlflow.projection.line_payload import is_model_setting
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.batch import command_on
from pf_mlflow.scoring.sums import VERSION
from pf_mlflow.tracking.known_run import KIND
from pf_mlflow.tracking.links import BATCHES_VIEW, LINES_VIEW

__all__ = ["description", "shared_views"]

_SCORES = 3
_FAILED = 3


def shared_views(parent_run_id: str, summary: BatchSummary, columns: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Return name and state of each view by its key: the batches of an experiment, and the lines of the newest one.

    Args:
        parent_run_id: The newest batch's.
        summary: Its sums.
        columns: Names of what its lines show.
    """
    means = _means(summary)
    of_batch = ["lines_total", "lines_failed", *means, "duration/p50", "total_tokens"]
    columns = list(columns)
    asked = [name for name in columns if name.startswith("input_") and not is_model_setting(name[len("input_") :])]
    of_line = [*(f"params.`{name}`" for name in [*asked[:_SCORES], "output"] if name in columns)]
    of_line += ["tags.`expected`"] if "expected" in columns else []
    of_line += [f"metrics.`{name.rpartition('/')[0]}`" for name in means if name.rpartition("/")[0] in columns]
    of_line += [f"metrics.`{name}`" for name in ("duration", "total_tokens") if name in columns]
    return {
        BATCHES_VIEW: (
            "Batches",
            _state(f"tags.`{KIND}` = 'batch'", _metrics(of_batch), "attributes.start_time", False),
        ),
        LINES_VIEW: (
            "Lines of the newest batch",
            _state(f"tags.`mlflow.parentRunId` = '{parent_run_id}'", of_line, "attributes.run_name", True),
        ),
    }


def _means(summary: BatchSummary) -> list[str]:
    """Return the metrics that tell most of a batch's scores: the share of lines that pass, the first means."""
    means = [name for name in summary.scores if name.endswith(f"{VERSION}/mean")]
    return [name for name in ("overall/pass_rate",) if name in summary.scores] + means[:_SCORES]


def _metrics(names: Iterable[str]) -> list[str]:
    return [f"metrics.`{name}`" for name in names]


def _state(where: str, columns: list[str], order: str, ascending: bool) -> Mapping[str, Any]:
    return {
        "searchFilter": where,
        "orderByKey": order,
        "orderByAsc": ascending,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
    }


def description(name: str, experiment_id: str, summary: BatchSummary, run_ids: Mapping[int, str]) -> str:
    """Return what a batch's page says of it in Markdown, about five lines; it holds no text of a line.

    Args:
        name: The batch's.
        experiment_id: Where its runs are.
        summary: Its sums.
        run_ids: Runs of failed lines, by line.
    """
    runs = f"#/experiments/{experiment_id}/runs"
    scores = [f"{key.removesuffix(f'{VERSION}/mean')} {summary.scores[key]:.4g}" for key in _means(summary)]
    evaluated = summary.scores.get("lines_evaluated")
    told = [
        f"{summary.lines_completed:,} lines completed, {summary.lines_failed:,} failed{_kinds(summary)}",
        f"Scores over {evaluated:,.0f} lines: {', '.join(scores)}" if scores and evaluated else "",
        ", ".join(f"[failed line {line}]({runs}/{run_id})" for line, run_id in [*run_ids.items()][:_FAILED]),
        f"[All batches]({runs}?viewStateShareKey={BATCHES_VIEW}) · "
        f"[Answers side by side]({runs}?viewStateShareKey={BATCHES_VIEW}&compareRunsMode=ARTIFACT) · "
        f"[Lines of the newest batch]({runs}?viewStateShareKey={LINES_VIEW})",
        f"`{command_on('show', name)}`",
    ]
    return "  \n".join(filter(None, told))


def _kinds(summary: BatchSummary) -> str:
    kinds = dict.fromkeys(line.error.partition(":")[0] for line in summary.failed if line.error)
    return f" ({', '.join(kinds)})" if kinds else ""
