"""Fixtures of the console's tests: a proxy behind an admin key, and a page in Chromium that tells what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from proxy import Proxy, running_provider, running_proxy

from router.providers.simulated import SimulatedProvider
from tests.console.browser import running_browser

ADMIN_KEY = "fk-admin-of-the-tests"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
FILES = {
    "models": """
models:
  cheap: {target: openai/gpt-4o-mini, base_url: URL, kind: routine}
  premium: {target: openai/gpt-4o, base_url: URL, kind: premium}
""",
    "default": """
task: default
baseline: premium
budget: {per_day_usd: 25, per_month_usd: 500}
route:
  - name: long
    when: {input_tokens: {gt: 400}}
    use: premium
  - name: secret
    when: {text: {contains: the magic word}}
    use: premium
  - name: routine
    use: [cheap, premium]
""",
    "summarise": """
task: summarise
baseline: premium
budget: {per_request_usd: 0.01, per_hour_usd: 2, on_exceeded: reject}
route:
  - name: short
    use: cheap
""",
}


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose callers need no key, and whose operators do."""
    files = {name: text.replace("URL", provider.base_url) for name, text in FILES.items()}
    folder = tmp_path_factory.mktemp("console")
    with running_proxy(folder, files, settings={"admin_key": ADMIN_KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@dataclass
class Watched:
    """A page, and all that should not have happened in it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Requests to any host but the proxy's."""


def watched(context: BrowserContext, proxy: Proxy) -> Watched:
    """Open an empty page whose errors and requests are noted."""
    found = Watched(context.new_page())
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    found.page.on("console", lambda told: found.errors.append(told.text) if told.type == "error" else None)
    found.page.on(
        "request",
        lambda request: None if request.url.startswith(f"{proxy.url}/") else found.elsewhere.append(request.url),
    )
    return found


def enter(page: Page, proxy: Proxy) -> None:
    """Open the console with the admin key, and wait until it shows its figures."""
    page.goto(f"{proxy.url}/console")
    page.get_by_label("Admin key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Show the figures").click()
    expect(page.locator("#status")).to_have_text("live")


@pytest.fixture
def watch(browser: Browser, proxy: Proxy) -> Iterator[Watched]:
    """A page in a browser of its own, which must end without any error and without a request to another host."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce") as context:
        context.set_default_timeout(10_000)
        found = watched(context, proxy)
        yield found
    assert found.errors == []
    assert found.elsewhere == []
