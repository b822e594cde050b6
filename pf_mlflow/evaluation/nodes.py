"""What the nodes of an evaluation flow call: a line's scores on their way to MLflow, and their sums for promptflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pf_mlflow.records.score import read_scores
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.private_names import current_batch, current_line, promptflow_home
from pf_mlflow.sources.promptflow.row_check import check_row
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record

__all__ = ["checked_scores", "sum_up"]


def checked_scores(scores: Any) -> list[dict[str, Any]]:
    """Return a line's scores as a node named `save_scores` hands them on: from its output they come to MLflow.

    Args:
        scores: Mappings with a `name` and a `value` or an `error`, or one mapping from names to values.

    Raises:
        BadInput: it is neither, or the line has got another line's data.
    """
    if (line := current_line()) and line.line_number is not None:
        check_row(line)
    return [score.as_dict() for score in read_scores(scores)]


def sum_up(lines: Iterable[Any]) -> dict[str, float]:
    """Return the metrics of a batch's scores, as its parent run shows them: for an aggregation node.

    Args:
        lines: The scores of each line that was scored.
    """
    from pf_mlflow.scoring.sums import ScoreSums, evaluated  # the formulas come with it: no line waits for them

    scored = [read_scores(line) for line in lines]
    sums = ScoreSums.of(scored)
    return sums.metrics() | evaluated(max(len(scored), _lines_to_score()), sums.lines)


def _lines_to_score() -> int:
    """Return how many lines the batch has that is scored, failed ones among them; 0 if that is not known."""
    home = promptflow_home()
    record = run_record(home, current_batch())
    if record and record.is_evaluation():
        record = run_record(home, record.base_batch or "")
    return _lines_of(record) if record else 0


def _lines_of(record: RunRecord) -> int:
    return record.lines_completed + record.lines_failed or BatchFolder.of(record).count()
