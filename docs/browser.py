"""A page in the Chromium that is installed on this machine, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

__all__ = ["installed_chromium", "new_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def installed_chromium() -> str | None:
    """Return the path of a Chromium, `None` if there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def new_page(width: int, height: int) -> Iterator[Page]:
    """Yield an empty page of this size in pixels, in a headless browser that ends with the block."""
    program = installed_chromium()
    if program is None:
        raise SystemExit(f"No Chromium is installed ({', '.join(_NAMES)}): `apt-get install chromium`.")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as browser:
        yield browser.new_page(viewport={"width": width, "height": height})
