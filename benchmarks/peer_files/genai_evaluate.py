"""The lines by `mlflow.genai.evaluate`: `python genai_evaluate.py FILE BASE_URL`; a trace for each is logged."""

import json
import sys
from pathlib import Path

import mlflow
from mlflow.genai import scorer
from openai import OpenAI


@scorer
def said_something(outputs: str) -> bool:
    """Score a line at no cost; one scorer has to be there."""
    return bool(outputs)


def main(lines: str, base_url: str) -> None:
    """Ask the model for each line."""
    asked = json.loads(Path(lines).read_text("utf-8"))
    client = OpenAI(api_key="none", base_url=base_url)

    def joke(topic: str) -> str:
        messages = [{"role": "system", "content": asked["system"]}, {"role": "user", "content": topic}]
        answer = client.chat.completions.create(messages=messages, **asked["settings"])
        return answer.choices[0].message.content or ""

    data = [{"inputs": {"topic": topic}} for topic in asked["topics"]]
    mlflow.genai.evaluate(data=data, predict_fn=joke, scorers=[said_something])


if __name__ == "__main__":
    main(*sys.argv[1:])
