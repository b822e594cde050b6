"""What a user asks of `pf-mlflow run`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pf_mlflow.errors import BadInput
from pf_mlflow.running.model_choice import Connections

__all__ = ["PROCESSES", "THREADS", "RunRequest"]

THREADS, PROCESSES = "threads", "processes"
_AT_ONCE = {THREADS: 32, PROCESSES: 4}
_NAME_LIMIT = 200
"""Bytes of a batch's name, which is the beginning of files' names of 255."""


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for; either `flow` with `data` or `run`, or `resume_from`."""

    flow: Path | None = None
    data: Path | None = None
    column_mapping: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = True
    """Whether inputs that are not mapped take the columns of their names."""
    name: str | None = None
    display_name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None
    connections: Connections = field(default_factory=dict)
    default_connection: Mapping[str, str] = field(default_factory=dict)
    """Inputs of nodes, by node, that take `open_ai_connection`, or what stands in for it where there is none."""
    parent_run: str | None = None
    """A run of the user's that the batch's is put below, `""` for none; `None` is what the settings say."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Variables that hold where neither flow nor environment says where a batch goes."""
    init: Mapping[str, str] = field(default_factory=dict)
    """Arguments of a flex flow's class."""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    """What the batch has in its environment besides; `${CONNECTION.KEY}` is a connection's value."""
    run: str | None = None
    """A batch whose outputs are inputs of this one."""
    resume_from: str | None = None
    """A batch whose completed lines are taken over; its flow, data and mapping are this one's too."""
    resume_changed: bool = False
    """Whether they are taken over though rows of the data or the flow changed."""
    engine: str = THREADS
    concurrency: int | None = None
    """Lines at once; `None` is 32, and 4 of processes."""
    limit: int | None = None
    """How many lines are executed at the most, the first ones."""
    line_timeout: int | None = None
    """Seconds; `None` is promptflow's own, 600."""
    wait: bool = True
    """Whether to wait until MLflow has all of it."""
    offline_warning: str = ""
    """What to warn of if only the built-in model, which is no real one, would answer."""

    def __post_init__(self) -> None:
        """Check what can be checked of the options alone, for the command as for a script.

        Raises:
            BadInput: naming the first that cannot be used.
        """
        if self.engine not in list(_AT_ONCE):
            raise BadInput(f"engine={self.engine!r} cannot be used: it is {THREADS} or {PROCESSES}.")
        for name in ("concurrency", "limit", "line_timeout"):
            _check_count(name, getattr(self, name))
        _check_name(self.name)
        for name in ("column_mapping", "tags", "init", "connections", "environment_variables"):
            _check_mapping(name, getattr(self, name))
        for node, inputs in self.connections.items():
            _check_mapping(f"connections[{node!r}]", inputs)
        for variable, value in self.environment_variables.items():
            _check_variable(variable, value)
        if self.limit and self.engine == PROCESSES:
            raise BadInput("limit is for threads only.")
        self._check_what_to_run_on()

    def _check_what_to_run_on(self) -> None:
        if self.resume_from:
            names = ("flow", "data", "column_mapping", "run", "variant")
            if given := [name for name in names if getattr(self, name)]:
                raise BadInput(f"resume_from takes all of the earlier batch; leave out {', '.join(given)}.")
        elif self.resume_changed:
            raise BadInput("resume_changed needs a batch to go on with: resume_from.")
        elif self.data is None and not self.run:
            raise BadInput("There is nothing to run the flow on; name a file with data, or a batch with run.")

    @property
    def lines_at_once(self) -> int:
        """How many lines are executed at once."""
        return self.concurrency or _AT_ONCE[self.engine]


def _check_count(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise BadInput(f"{name}={value!r} cannot be used: it is a whole number from 1 on.")


def _check_name(name: object) -> None:
    """Raise `BadInput` for a name whose folder would hold other batches, which would go with it, or be elsewhere."""
    if name is None:
        return
    if not isinstance(name, str) or name == ".." or Path(name).name != name or len(os.fsencode(name)) > _NAME_LIMIT:
        shown = repr(name) if len(repr(name)) <= 60 else f"{repr(name)[:60]}…"
        raise BadInput(
            f"name={shown} cannot be used: promptflow makes a folder of that name; take one without `/`, of at most "
            f"{_NAME_LIMIT} bytes."
        )


def _check_mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadInput(f"{name}={value!r} cannot be used: it is a dict whose keys are names.")


def _check_variable(name: str, value: object) -> None:
    """Raise `BadInput` for what no environment can hold; the value may be a secret, and is not shown."""
    if not name or "=" in name or "\0" in f"{name}{value}":
        raise BadInput(
            f"environment_variables: {name!r} cannot be used: a name has no `=`, and neither it nor its value a NUL."
        )
