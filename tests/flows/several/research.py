from openai import OpenAI
from promptflow.connections import OpenAIConnection
from promptflow.core import tool


@tool
def research(connection: OpenAIConnection, question: str, angles: list) -> dict:
    """Ask the model once per angle through the SDK."""
    client = OpenAI(api_key=connection.api_key, base_url=connection.base_url)

    def ask(angle: str) -> str:
        messages = [{"role": "user", "content": f"{question} From the angle of {angle}."}]
        return client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content

    return {angle: ask(angle) for angle in angles}
