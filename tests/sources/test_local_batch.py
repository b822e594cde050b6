"""Where an evaluation's scores go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import batch

from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.local_batch import evaluation_of
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
