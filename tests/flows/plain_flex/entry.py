import datetime
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from promptflow.tracing import trace

from pf_mlflow import attach

attach()


@dataclass
class Answer:
    text: str
    score: int = 1


@trace
def chunks() -> Iterator[str]:
    yield "Hel"
    yield "lo"


def answer(kind: str, count: int = 3):
    """Return an output of the kind that is asked for."""
    kinds = {
        "date": lambda: datetime.date(2020, 1, 1),
        "stream": lambda: (chunk for chunk in ("Hel", "lo")),
        "traced stream": chunks,
        "dict": lambda: {"text": "Hello", "count": count},
        "numbered dict": lambda: {"line_number": 77, "text": "Hello"},
        "dict with a stream": lambda: {"text": chunks()},
        "dataclass": lambda: Answer("Hello"),
        "list": lambda: ["Hel", "lo"],
        "none": lambda: None,
        "boom": lambda: [][1],
        "exit": lambda: sys.exit(3),
    }
    return kinds.get(kind, lambda: kind)()
