"""What a user asks of `pf-mlflow run`, and is told meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pf_mlflow.running.model_choice import Connections, Llm
from pf_mlflow.running.monitor import RunWatch

__all__ = ["PROCESSES", "THREADS", "RunRequest", "Watcher"]

THREADS, PROCESSES = "threads", "processes"


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for; either `flow` with `data` or `run`, or `resume_from`."""

    flow: Path | None = None
    data: Path | None = None
    column_mapping: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    display_name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None
    connections: Connections = field(default_factory=dict)
    default_connection: Mapping[str, str] = field(default_factory=dict)
    """Inputs of nodes, by node, that take `open_ai_connection`, or what stands in for it where there is none."""
    init: Mapping[str, str] = field(default_factory=dict)
    """Arguments of a flex flow's class."""
    run: str | None = None
    """A batch whose outputs are inputs of this one."""
    resume_from: str | None = None
    """A batch whose completed lines are taken over; its flow, data and mapping are this one's too."""
    engine: str = THREADS
    concurrency: int = 32
    limit: int | None = None
    """How many lines are executed at the most, the first ones."""
    line_timeout: int | None = None
    """Seconds; `None` is promptflow's own, 600."""


class Watcher:
    """Is told what goes on; says nothing by itself."""

    def starting(self, llm: Llm, tracking_uri: str) -> None:
        """The batch is about to start."""

    def running(self, watch: RunWatch) -> None:
        """The batch runs: `watch` counts its lines."""

    def warn(self, sentence: str) -> None:
        """Something is wrong that does not stop the batch."""
