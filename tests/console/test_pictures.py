"""The pictures of docs/console.md: taken at each run, and put there where FARTHING_PICTURES is set."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from proxy import Proxy, running_provider, running_proxy

from tests.console.conftest import ADMIN_KEY, enter

FOLDER = Path(__file__).parents[2] / "docs" / "console"
MINUTES = 59
KEY = "fk-search-team"
FILES = {
    "models": """
models:
  nano: {target: openai/gpt-4.1-nano, base_url: URL, kind: routine}
  mini: {target: openai/gpt-4o-mini, base_url: URL, kind: routine}
  premium: {target: openai/gpt-4o, base_url: URL, kind: premium}
""",
    "support": """
task: support
baseline: premium
budget: {per_hour_usd: 0.2, per_day_usd: 0.25}
route:
  - name: hard
    when: {difficulty: {gte: 0.4}}
    use: premium
  - name: routine
    use: [mini, nano]
""",
    "extract": """
task: extract
baseline: premium
route:
  - name: short
    when: {input_tokens: {lte: 60}}
    use: nano
  - name: long
    use: mini
""",
    "default": """
task: default
baseline: premium
budget: {per_month_usd: 0.5}
route:
  - name: plain
    use: mini
""",
    "accounts": f"""
budget: {{per_month_usd: 2}}
accounts:
  search-team:
    keys: ["sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]
    budget: {{per_day_usd: 0.05, on_exceeded: warn}}
""",
}
ASKED = (
    ("support", "Where is my parcel?"),
    ("support", "Prove step by step that the refund of this order, in three currencies, is what the contract says."),
    ("extract", "Name, date and sum of this invoice."),
    ("extract", "Return every address in this letter as JSON. " * 12),
    ("default", "Say it in one sentence."),
)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with an hour of traffic behind it."""
    now_s = time.time()
    clock = [now_s]
    with running_provider() as provider:
        files = {name: text.replace("URL", provider.base_url) for name, text in FILES.items()}
        with running_proxy(
            tmp_path_factory.mktemp("pictures"), files, settings={"admin_key": ADMIN_KEY}, clock=lambda: clock[0]
        ) as running:
            draw = random.Random(7)
            provider.faults.queue(*[""] * 30, "status=503 retry-after=60", model="gpt-4o-mini")
            for minute in range(MINUTES, -1, -1):
                for _ in range(draw.randint(0, 4) if minute else 4):
                    clock[0] = now_s - 60 * minute
                    task, text = draw.choice(ASKED)
                    headers = {"x-farthing-task": task, "authorization": f"Bearer {KEY}"}
                    running.ask(text, headers=headers, max_tokens=draw.choice((60, 120, 240)))
            running.rows()
            yield running


@pytest.mark.parametrize(
    ("name", "scheme", "width", "height"),
    [("light", "light", 1180, 1240), ("dark", "dark", 1180, 700), ("phone", "light", 390, 844)],
)
def test_a_picture_is_taken(
    browser: Browser, proxy: Proxy, tmp_path: Path, name: str, scheme: str, width: int, height: int
) -> None:
    path = tmp_path / f"{name}.png"
    with browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", timezone_id="UTC"
    ) as context:
        page = context.new_page()
        enter(page, proxy)
        page.get_by_label("A chat request as JSON").fill("Where is my parcel?")
        page.get_by_role("combobox", name="Task").select_option("support")
        page.get_by_role("combobox", name="Account").select_option("search-team")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#explained")).to_contain_text("It would go to")
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.screenshot(path=path)
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (width, height)
    if "FARTHING_PICTURES" in os.environ:
        FOLDER.mkdir(exist_ok=True)
        shutil.copy(path, FOLDER)
    assert (FOLDER / path.name).exists(), "FARTHING_PICTURES=1 puts the pictures there"
