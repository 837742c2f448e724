"""A real headless Chromium: found on the machine, or installed from Debian's packages where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
INSTALL_WITHIN_S = 600


@cache
def chromium() -> str | None:
    """Return the path of a Chromium; None where there is none and this machine can't install it by itself."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        command = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
        subprocess.run(["sh", "-c", command], check=True, timeout=INSTALL_WITHIN_S, stdout=subprocess.DEVNULL)
        found = shutil.which("chromium")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Chromium; it is closed, and with it the event loop that playwright keeps in this thread."""
    path = chromium()
    if path is None:
        message = "Chromium not found: install it (Debian: apt-get install chromium) to test the console"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    sandboxed = os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS, chromium_sandbox=sandboxed)
        yield browser
        browser.close()
