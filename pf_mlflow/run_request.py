"""What a user asks of `pf-mlflow run`, is told meanwhile, and gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pf_mlflow.llm import Connections, Llm
from pf_mlflow.records import Batch
from pf_mlflow.run_watch import RunWatch
from pf_mlflow.summary import BatchSummary

__all__ = ["PROCESSES", "THREADS", "Outcome", "RunRequest", "Watcher"]

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


@dataclass(frozen=True)
class Outcome:
    """What became of a batch."""

    name: str
    status: str
    llm: Llm
    batch: Batch | None
    """`None` if no line of it was tracked."""
    parent_run_id: str | None
    link: str | None
    """Address of the parent run's page; `None` while no server shows it."""
    summary: BatchSummary | None
    """`None` while MLflow does not have all its lines."""
    trouble: str | None
    failure: str | None
    """Why the batch as a whole failed, in promptflow's words."""
    lines_failed: int
    seconds: float
    """From the call to the last line's result, delivery not counted."""
    interrupted: bool = False
    threads_left: bool = False
    """Whether a line was given up whose thread may still run: this process would wait for it at its end."""

    def as_dict(self) -> dict[str, Any]:
        """Return what a program wants to know."""
        batch = self.batch
        return {
            "batch": self.name,
            "status": self.status,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "language_model": self.llm.label,
            "lines_failed": self.lines_failed,
            **(asdict(self.summary) if self.summary else {}),
            "tracking_uri": batch.tracking_uri if batch else None,
            "experiment": batch.experiment if batch else None,
            "parent_run_id": self.parent_run_id,
            "link": self.link,
            "trouble": self.trouble,
            "failure": self.failure,
        }


class Watcher:
    """Is told what goes on; says nothing by itself."""

    def starting(self, llm: Llm, tracking_uri: str) -> None:
        """The batch is about to start."""

    def running(self, watch: RunWatch) -> None:
        """The batch runs: `watch` counts its lines."""

    def warn(self, sentence: str) -> None:
        """Something is wrong that does not stop the batch."""
