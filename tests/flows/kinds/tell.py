from promptflow.core import log_metric, tool


@tool
def tell(answers: list) -> None:
    """Log how many lines have an answer, and fail."""
    log_metric("answers", len(answers))
    raise ArithmeticError("nothing can be summed up")
