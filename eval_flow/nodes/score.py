from promptflow.core import tool

from pf_mlflow.scoring import LineFields, score_line


@tool
def score(answer: object, question: object, ground_truth: object, context: object, metrics: object) -> list:
    """Score one line by the metrics named, or by every heuristic whose inputs the line has."""
    line = LineFields.of(answer, question, ground_truth, context)
    return [score.as_dict() for score in score_line(line, metrics)]
