from promptflow.core import log_metric, tool


@tool
def count(numbers: list, jokes: list) -> int:
    """Sum up the numbers of the lines whose joke is about their own topic."""
    print(f"counted {len(numbers)}")
    log_metric("sum", sum(numbers))
    log_metric("jokes", len(set(jokes)))
    return sum(numbers)
