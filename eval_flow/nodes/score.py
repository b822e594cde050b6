from typing import Union

from promptflow.connections import AzureOpenAIConnection, OpenAIConnection
from promptflow.core import tool

from pf_mlflow.scoring import LineFields, score_line


@tool
def score(
    answer: object,
    question: object,
    ground_truth: object,
    context: object,
    metrics: object,
    judge_model: str = "",
    connection: Union[OpenAIConnection, AzureOpenAIConnection] = None,  # noqa: UP007 - promptflow reads no `|`
) -> list:
    """Score one line by the metrics named, or by all whose inputs it has; by judges too where their model is named."""
    line = LineFields.of(answer, question, ground_truth, context)
    return [score.as_dict() for score in score_line(line, metrics, judge_model=judge_model, connection=connection)]
