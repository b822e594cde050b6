import os
from typing import TypedDict

from openai import OpenAI
from promptflow.tracing import trace


class Answer(TypedDict):
    answer: str


@trace
def ask(topic: str) -> str:
    client = OpenAI(api_key="sk-none", base_url=os.environ["FAKE_LLM"])
    messages = [{"role": "user", "content": topic}]
    return client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content


@trace
def answer(topic: str) -> Answer:
    if "boom" in topic:
        raise ValueError("boom")
    return {"answer": ask(topic)}
