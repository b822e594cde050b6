from promptflow.core import tool


@tool
def fetch_text(url: str) -> str:
    return f"the page at {url}"
