from typing import TypedDict


class Reply(TypedDict):
    answer: str


class Answer:
    """Answers as loudly as it was told to."""

    def __init__(self, mark: str = "."):
        self.mark = mark

    def __call__(self, topic: str) -> Reply:
        print(f"printed {topic}")
        return {"answer": topic + self.mark}

    def __aggregate__(self, lines: list) -> dict:
        return {"lines": len(lines)}
