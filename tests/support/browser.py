"""A real Chromium for tests: Debian's own, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Return where Chromium is."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError("There is no Chromium here. Install it: apt-get install chromium (`make test` does).")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a browser; close it at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
