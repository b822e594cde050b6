import asyncio
import sys
from collections.abc import AsyncIterator, Iterator


async def chunks(kind: str) -> AsyncIterator[str]:
    yield "Hel"
    await asyncio.sleep(0)
    if "broken" in kind:
        raise ConnectionError("the stream broke")
    if "left" in kind:
        sys.exit(3)
    yield "lo"


def plain_chunks(kind: str) -> Iterator[str]:
    yield "Hel"
    if "broken" in kind:
        raise ConnectionError("the stream broke")
    yield "lo"


async def answer(kind: str):
    """Return a stream of the kind that is asked for."""
    await asyncio.sleep(0)
    stream = plain_chunks(kind) if "plain" in kind else chunks(kind)
    return {"text": stream} if "dict" in kind else stream
