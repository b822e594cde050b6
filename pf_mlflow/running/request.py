"""What a user asks of `pf-mlflow run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pf_mlflow.running.model_choice import Connections

__all__ = ["PROCESSES", "THREADS", "RunRequest"]

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
    offline_warning: str = ""
    """What to warn of if only the built-in model, which is no real one, would answer."""
