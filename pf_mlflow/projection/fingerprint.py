"""What a child run says of its line's end, in one number a line: so it is seen which lines ended otherwise."""

from __future__ import annotations

import json

from pf_mlflow.records.keys import readable
from pf_mlflow.records.line import COMPLETED, LineRecord
from pf_mlflow.tracking.run_payload import LAST_OUTPUT, RunPayload, length_of_whole

__all__ = ["agrees", "fingerprint", "of_outputs"]

_BEGINNING = 400
"""Characters of a long text that tell it from others of its length: a run may show no more of it."""


def fingerprint(values: RunPayload) -> int:
    """Return the fingerprint of what a run shows: of a line that completed its output, else its error."""
    if values.status != "FINISHED":
        return hash((values.status, _of_text(values.tags.get("promptflow.error", "")))) << 1
    return _of_text(values.tags.get(LAST_OUTPUT, values.params.get("output", "")))


def of_outputs(record: LineRecord, values: RunPayload) -> int:
    """Return the fingerprint of a line of which all outputs are known, not only the one that its run shows."""
    return _of_all(record) if record.status == COMPLETED else fingerprint(values)


def agrees(shown: int, decided: LineRecord) -> bool:
    """Tell whether a run surely shows what was decided.

    Args:
        shown: The run's fingerprint.
        decided: Holds a status and those outputs of which one is the run's; without any, none of them is shown.
    """
    if decided.status != COMPLETED:
        return False  # its error is to be compared
    if not decided.outputs:
        return bool(shown & 1)
    return shown in {_of_all(decided), *map(_of_text, map(readable, decided.outputs.values()))}


def _of_all(record: LineRecord) -> int:
    return hash(json.dumps(record.outputs, sort_keys=True, default=str)) << 1 | 1


def _of_text(text: str) -> int:
    return hash((length_of_whole(text), text[:_BEGINNING])) << 1 | 1
