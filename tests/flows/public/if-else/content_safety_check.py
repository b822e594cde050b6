from promptflow.core import tool


@tool
def is_safe(text: str) -> bool:
    return "bomb" not in text
