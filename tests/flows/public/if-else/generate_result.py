from promptflow.core import tool


@tool
def whichever(llm_result: str = "", default_result: str = "") -> str:
    return llm_result or default_result
