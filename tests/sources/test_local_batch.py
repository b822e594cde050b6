"""Where an evaluation's scores go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import batch
from finished import finished_batch, home_with

from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.local_batch import evaluation_of, known_batches
from pf_mlflow.spool.store import Spool

BASE = batch(uid="base", name="base", tracking_uri="http://there", experiment="theirs")
OWN = batch(uid="own", name="own", tracking_uri="http://here", experiment="ours")


@pytest.mark.parametrize(
    ("base", "own", "content"), [("all", "all", "all"), ("none", "all", "none"), ("all", "none", "none")]
)
def test_to_the_batch_that_is_scored_and_with_no_more_text_than_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, own: str, content: str
) -> None:
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path / "home"))
    spool = Spool(tmp_path)
    spool.add_batch(replace(BASE, content=base))
    found = evaluation_of("base", replace(OWN, content=own), spool, read_settings())
    assert found and (found.uid, found.base_uid, found.base_name) == ("own", "base", "base")
    assert (found.tracking_uri, found.experiment, found.content) == ("http://there", "theirs", content)


def test_to_nowhere_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path / "home"))
    assert evaluation_of("nobody", OWN, Spool(tmp_path), read_settings()) is None


OWN_SETTINGS = "environment_variables: {PF_MLFLOW_CONTENT: none, MLFLOW_EXPERIMENT_NAME: its own}"


@pytest.mark.parametrize("place", ["snapshot", "author"])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("flow.dag.yaml", f"nodes: []\n{OWN_SETTINGS}"),
        ("flow.flex.yaml", f"entry: a:b\n{OWN_SETTINGS}"),
        ("joke.prompty", f"---\n{OWN_SETTINGS}\n---\nuser: hi"),
    ],
)
def test_a_batch_that_only_promptflow_knows_has_the_settings_of_its_flow_as_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, file: str, text: str
) -> None:
    home, flow = tmp_path / "home", tmp_path / "flow"
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(home))
    folder = finished_batch(home, [])
    (folder / "snapshot" / "flow.dag.yaml").unlink()
    flow.mkdir()
    ((flow if place == "author" else folder / "snapshot") / file).write_text(text)
    path = flow / file if file.endswith("prompty") else flow
    home_with(home, {"output_path": str(folder), "flow_path": str(path)})
    found = known_batches(Spool(tmp_path / "spool"), read_settings(), "b1")[-1]
    assert (found.content, found.experiment) == ("none", "its own")
