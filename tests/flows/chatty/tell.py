import sys
import time

from promptflow.core import tool


@tool
def tell(topic: str, number: int, more: dict) -> dict:
    """Print and return what only this line has, while others do the same."""
    for step in range(3):
        print(f"out {topic} {number} {step}")
        print(f"err {topic} {number} {step}", file=sys.stderr)
        time.sleep(0.01)
    return {"topic": topic, "number": number, "more": more}
