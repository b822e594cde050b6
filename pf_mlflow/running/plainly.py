"""What promptflow says of a flow that it cannot run, without its classes and with what to do about it."""

from __future__ import annotations

import re

__all__ = ["plainly"]

_OF_A_NODE = re.compile(r"Tool load failed in '(?P<node>[^']+)': \(\w+\) (?P<why>.*)")
_NO_CONNECTION = r"Connection '?[^']+'? is not found|Get connection "
_NAME_ONE = "`pf connection list` shows those there are; name one by --connections {node}.connection=NAME"
_REMEDIES = (
    (_NO_CONNECTION, _NAME_ONE),
    (r"Node source path .* is invalid", "put the file there, or mend the node's path in flow.dag.yaml"),
    (r"The API '[^']+' is not found", "write `api: chat` or `api: completion`"),
    (r"No module named '([^']+)'", "install what the flow needs, as its requirements.txt says"),
)  # fmt: skip
"""What a sentence says, and its remedy."""


def plainly(sentence: str) -> str:
    """Return a sentence of promptflow's as a person reads it; one that is not known stays as it is."""
    sentence = sentence.removeprefix("First error message is: ")
    found = _OF_A_NODE.fullmatch(sentence)
    node, why = (found["node"], found["why"]) if found else ("NODE", sentence)
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, why)), "")
    told = f"The node {node!r} cannot be loaded: {why}" if found else why
    return f"{told.rstrip('. ')} — {remedy.format(node=node)}." if remedy else told
