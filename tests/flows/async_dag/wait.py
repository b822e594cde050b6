import asyncio
import threading

from promptflow.core import tool


@tool
async def wait(topic: str) -> str:
    """Wait a second, and tell the thread in which it did."""
    await asyncio.sleep(100 if "hang" in topic else 1)
    return f"{topic} {threading.get_ident()}"
