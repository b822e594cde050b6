from promptflow.core import tool


@tool
def convert_to_dict(summary: str) -> dict:
    return {"category": "Page", "evidence": summary}
