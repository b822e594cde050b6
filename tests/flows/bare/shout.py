from promptflow.core import tool


@tool
def shout(text: str) -> str:
    if "boom" in text:
        raise ValueError("boom")
    return text.upper()
