import datetime
import os

from openai import OpenAI
from promptflow.core import tool


def ask() -> object:
    client = OpenAI(api_key="sk-none", base_url=os.environ["FAKE_LLM"])
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "atom"}]).choices[0].message


@tool
def give(kind: str) -> object:
    """Return an output of the kind that is asked for."""
    kinds = {
        "date": lambda: datetime.date(2020, 1, 1),
        "deep": lambda: {"dates": [datetime.date(2020, 1, 1)]},
        "message": ask,
        "bytes": lambda: b"ab",
        "stream": lambda: (chunk for chunk in ("Hel", "lo")),
        "tuple": lambda: (1, "two"),
        "none": lambda: None,
        "infinite": lambda: float("inf"),
        "boom": lambda: [][1],
    }
    return kinds.get(kind, lambda: kind)()
