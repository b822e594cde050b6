from promptflow.core import tool


@tool
def refuse(question: str) -> str:
    return f"I cannot answer {question!r}."
