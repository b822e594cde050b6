from openai import OpenAI
from promptflow.connections import OpenAIConnection
from promptflow.core import tool


@tool
def greet(prompt: str, connection: OpenAIConnection) -> str:
    client = OpenAI(api_key=connection.api_key, base_url=connection.base_url)
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content
