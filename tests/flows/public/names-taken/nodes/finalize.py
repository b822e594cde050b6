from promptflow.core import tool


@tool
def finalize(text: str) -> str:
    return text.upper()
