"""What promptflow says of a flow is told without its classes, and with the remedy."""

from __future__ import annotations

import pytest

from pf_mlflow.running.plainly import plainly


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Connection 'nope' is not found.",
            "Connection 'nope' is not found — `pf connection list` shows those there are; "
            "name one by --connections NODE.connection=NAME.",
        ),
        (
            "Tool load failed in 'joke': (InvalidSource) Node source path 'jok.jinja2' is invalid on node 'joke'.",
            "The node 'joke' cannot be loaded: Node source path 'jok.jinja2' is invalid on node 'joke' — put the file "
            "there, or mend the node's path in flow.dag.yaml.",
        ),
        (
            "Tool load failed in 'joke': (APINotFound) The API 'OpenAI.chatt' is not found.",
            "The node 'joke' cannot be loaded: The API 'OpenAI.chatt' is not found — write `api: chat` or "
            "`api: completion`.",
        ),
        (
            "Tool load failed in 'a': (ToolLoadError) Failed to load python module from file 'a.py': "
            "(ModuleNotFoundError) No module named 'spacy'.",
            "The node 'a' cannot be loaded: Failed to load python module from file 'a.py': (ModuleNotFoundError) No "
            "module named 'spacy' — install what the flow needs, as its requirements.txt says.",
        ),
        ("First error message is: It broke.", "It broke."),
        ("Something new of promptflow's.", "Something new of promptflow's."),
    ],
)
def test_promptflows_sentences(said: str, told: str) -> None:
    assert plainly(said) == told
