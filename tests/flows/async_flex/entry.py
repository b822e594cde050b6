import asyncio
import threading
from typing import TypedDict

from promptflow.tracing import trace


class Answer(TypedDict):
    answer: str


@trace
async def answer(topic: str) -> Answer:
    """Wait a second, and tell the thread in which it did."""
    await asyncio.sleep(100 if "hang" in topic else 1)
    return {"answer": f"{topic} {threading.get_ident()}"}
