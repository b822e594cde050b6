"""The documentation as pages, held against the rules of accessibility that axe knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import ROOT


@pytest.mark.slow
def test_no_page_of_the_documentation_has_a_serious_fault(page: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--no-directory-urls", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    pages = sorted(path for path in tmp_path.glob("*.html") if path.name != "404.html")
    assert len(pages) == len([*(ROOT / "docs").glob("*.md")])
    for path in pages:
        page.goto(path.as_uri())
        found = axe.run(page).response["violations"]
        assert not [fault["help"] for fault in found if fault["impact"] in ("serious", "critical")], path.name
