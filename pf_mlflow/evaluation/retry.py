"""How a batch was judged last, so that what failed then can be asked once more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pf_mlflow.errors import BadInput
from pf_mlflow.settings.judges import read_judge_settings
from pf_mlflow.sources.promptflow.flow import read_dag
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_records

__all__ = ["LastJudged", "last_judged"]

_MODEL = "judge_model"


@dataclass(frozen=True)
class LastJudged:
    """What an evaluation was run with."""

    data: Path | None
    column_mapping: Mapping[str, str]
    """Where its inputs came from, `metrics` and `judge_model` among them."""
    flow: Path | None
    connection: str | None
    """`None` where it was one that only stood while the evaluation ran."""

    @property
    def model(self) -> str:
        """The judges' model."""
        return self.column_mapping[_MODEL]


def last_judged(home: Path, base: str) -> LastJudged:
    """Return how a batch was judged last on this machine.

    Verdicts are kept and errors are not: to run the same evaluation again judges again where there was an error, and
    nowhere else.

    Raises:
        BadInput: it was not, or verdicts are not kept.
    """
    if not read_judge_settings().cache:
        raise BadInput(
            "PF_MLFLOW_JUDGE_CACHE=false keeps no verdicts, so that every line would be judged again; unset it."
        )
    judged = [record for record in run_records(home) if record.base_batch == base and record.column_mapping.get(_MODEL)]
    if not judged:
        raise BadInput(
            f"No judged evaluation of the batch {base!r} is known on this machine; judge it with --judge-model MODEL."
        )
    last = judged[-1]
    data = Path(last.data) if last.data else None
    return LastJudged(data, last.column_mapping, last.flow_dir, _connection(last))


def _connection(record: RunRecord) -> str | None:
    """Return the connection of an evaluation, which stands in the copy of its flow."""
    try:
        dag = read_dag(record.flow_copy)
    except BadInput:
        return None
    names = [(node.get("inputs") or {}).get("connection") for node in dag["nodes"] if node["name"] == "score"]
    return next((str(name) for name in names if name and not re.fullmatch(r"pf_mlflow_\d+", str(name))), None)
