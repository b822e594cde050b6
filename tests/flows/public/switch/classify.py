from promptflow.core import tool


@tool
def classify(query: str) -> str:
    return next((kind for kind in ("order", "product") if kind in query), "other")
