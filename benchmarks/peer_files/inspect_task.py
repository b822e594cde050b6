"""The lines as a task of Inspect AI: `inspect eval inspect_task.py -T lines=FILE`."""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.solver import generate, system_message


@task
def jokes(lines: str) -> Task:
    """Ask the model for each line; nothing is scored."""
    asked = json.loads(Path(lines).read_text("utf-8"))
    return Task(
        dataset=[Sample(topic) for topic in asked["topics"]], solver=[system_message(asked["system"]), generate()]
    )
