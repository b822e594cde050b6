from promptflow.core import tool


@tool
def measure(answer: str) -> int:
    return len(answer)
