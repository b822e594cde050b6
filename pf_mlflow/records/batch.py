"""A batch, and where its lines go."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from pf_mlflow.records import known_fields

__all__ = ["Batch", "command_on", "on_batch"]


@dataclass(frozen=True)
class Batch:
    """A batch and where its lines go, as the spool keeps it. It holds no secret."""

    uid: str
    name: str
    flow_name: str
    tracking_uri: str
    experiment: str
    user: str
    client_pid: int
    client_started: float
    """Creation time of the client process in Unix seconds: tells it from a later process of the same number."""
    promptflow_home: str | None = None
    content: str = "all"
    """`all`, or `none` for sizes only."""
    single: bool = False
    """Whether its lines are executions on their own (`pf flow test`, an endpoint), without a parent run."""
    base_uid: str | None = None
    """The batch that this one scores: it has no runs of its own then, but adds to those of that one."""
    base_name: str = ""
    outer_run_id: str | None = None
    """A run of the user's that the batch's own is put below."""
    prices: str = ""
    """File with a user's own prices of models, if any."""
    log_model: bool = False
    """Whether lines' runs are outputs of a logged model though that is a request a line."""

    def to_json(self) -> str:
        """Return the batch as JSON."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Batch:
        """Return the batch that `to_json` wrote."""
        return cls(**known_fields(cls, json.loads(text)))


def on_batch(command: str, name: str, *options: str) -> list[str]:
    """Return the words of a command of ours on a batch; a name may look like an option."""
    return [command, *options, "--", name] if name.startswith("-") else [command, name, *options]


def command_on(command: str, name: str, *options: str) -> str:
    """Return a command of ours on a batch as it can be pasted."""
    return shlex.join(["pf-mlflow", *on_batch(command, name, *options)])
