"""The architecture page shows the rooms that there are, in the layers that are enforced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from machine import ROOT

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PACKAGE = ROOT / "pf_mlflow"
PAGE = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
MOST_MODULES = 9


def rooms() -> set[str]:
    return {f"{path.parent.relative_to(PACKAGE).as_posix()}/" for path in PACKAGE.glob("*/**/__init__.py")}


def test_few_modules_stand_beside_the_rooms() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= MOST_MODULES


def test_the_tree_shows_every_room() -> None:
    tree = PAGE.partition("```text\npf_mlflow/\n")[2].partition("```")[0]
    assert set(re.findall(r"^  ([\w/]+/) ", tree, re.MULTILINE)) == rooms()


def test_the_layers_are_those_that_are_enforced() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    shown = PAGE.partition("```text\ncli\n")[2].partition("```")[0]
    assert ["cli", *shown.strip().splitlines()] == contract["layers"]
    assert not contract.get("ignore_imports")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`(?:pf_mlflow/)?((?:[\w-]+/)+[\w-]+\.py)`", page.read_text("utf-8"))
    own = {name for name in named if name.split("/")[0] in {room.split("/")[0] for room in rooms()}}
    assert own == {name for name in own if (PACKAGE / name).is_file()}
