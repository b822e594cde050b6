from promptflow.core import tool


@tool
def respond(order: str = "", product: str = "") -> str:
    return order or product or "Sorry?"
