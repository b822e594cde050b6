"""What the judges say of a line together: whether it passes, and if not, what went wrong first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pf_mlflow.records.score import FAIL, OVERALL, PASS, ROOT_CAUSE, Score
from pf_mlflow.scoring.judges.builtin import ORDER
from pf_mlflow.scoring.judges.judge import Judge

__all__ = ["overall"]


def overall(judged: Iterable[tuple[Judge, Score]]) -> list[Score]:
    """Return whether a line passes and, if it fails, the root cause; nothing where no judge with a say could judge.

    Each verdict among its judge's passing ones counts for the line, any other against it, an error neither way. The
    root cause is the first judge that failed, in the order of `ORDER`, those of the user's own last.
    """
    with_say = [(judge, score) for judge, score in sorted(judged, key=_place) if judge.passing]
    verdicts = [(judge, score) for judge, score in with_say if score.error is None]
    if not verdicts:
        return []
    failed = [judge.name for judge, score in verdicts if score.value not in judge.passing]
    model = verdicts[0][1].model
    rating = Score(OVERALL, FAIL if failed else PASS, _without(with_say), model=model)
    return [rating, Score(ROOT_CAUSE, failed[0], model=model)] if failed else [rating]


def _place(one: tuple[Judge, Score]) -> int:
    name = one[0].name
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _without(judged: Sequence[tuple[Judge, Score]]) -> str | None:
    missing = [judge.name for judge, score in judged if score.error is not None]
    return f"without a verdict of {', '.join(missing)}" if missing else None
