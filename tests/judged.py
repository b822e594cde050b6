"""Judges asked in the tests' own process, at a judge server."""

from __future__ import annotations

from typing import Any

from judge_server import KEY, JudgeServer
from promptflow.connections import AzureOpenAIConnection, OpenAIConnection

from pf_mlflow.records.score import Score
from pf_mlflow.scoring import LineFields, score_line

MODEL = "gpt-judge"


def openai(server: JudgeServer, **more: Any) -> OpenAIConnection:
    return OpenAIConnection(**{"name": "judge", "api_key": KEY, "base_url": server.base_url} | more)


def azure(server: JudgeServer, **more: Any) -> AzureOpenAIConnection:
    own = {"name": "judge", "api_key": KEY, "api_base": server.root, "api_version": "2024-10-21"}
    return AzureOpenAIConnection(**own | more)


def line(answer: str = "Paris", **fields: Any) -> LineFields:
    return LineFields.of(answer, **{"question": "Capital of France?", "context": "Paris is it."} | fields)


def judged(connection: Any, fields: LineFields, *metrics: str) -> dict[str, Score]:
    scores = score_line(fields, list(metrics) or None, judge_model=MODEL, connection=connection)
    by_name = {score.name: score for score in scores if score.model is not None or score.name == "chunk_precision"}
    assert len(by_name) == len([score for score in scores if score.name in by_name])
    return by_name
