"""The console in a real Chromium: live within three seconds, by keyboard alone, and without a word to another host."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from proxy import Proxy, running_proxy

from router.providers.simulated import SimulatedProvider
from tests.console.conftest import ADMIN_KEY, FILES, Watched, enter, watched

LIVE_WITHIN_S = 3.0
HOSTILE = '<img src=x onerror="document.title=1">'


def test_a_request_appears_within_three_seconds(watch: Watched, proxy: Proxy, provider: SimulatedProvider) -> None:
    enter(watch.page, proxy)
    answer = proxy.ask("Where is my parcel?")
    began = time.perf_counter()
    request_id = answer.headers["x-farthing-request-id"]
    row = watch.page.locator(f"tr[data-id='{request_id}']")
    expect(row).to_contain_text("answered", timeout=1000 * LIVE_WITHIN_S)
    print(f"it appeared after {time.perf_counter() - began:.2f} s")
    expect(row).to_contain_text("cheap")
    expect(row).to_contain_text("rule routine: always")
    expect(watch.page.locator("#spent")).not_to_have_text("$0.00", timeout=1000 * LIVE_WITHIN_S)


def test_the_charts_are_drawn(watch: Watched, proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.ask()
    enter(watch.page, proxy)
    for name in ("time", "mix"):
        canvas = watch.page.locator(f"#{name}-chart canvas")
        expect(canvas).to_be_visible()
        drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
        assert canvas.evaluate(drawn)


def test_without_the_library_there_are_bars(watch: Watched, proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.ask()
    watch.page.route("**/console/chart.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
    enter(watch.page, proxy)
    expect(watch.page.locator("#time-bars span")).to_have_count(60)
    expect(watch.page.locator("#time-chart")).to_be_hidden()
    expect(watch.page.locator("#mix .bar").first).to_be_visible()


def test_a_pasted_request_is_explained(watch: Watched, proxy: Proxy, provider: SimulatedProvider) -> None:
    calls = len(provider.calls)
    enter(watch.page, proxy)
    watch.page.get_by_label("A chat request as JSON").fill(
        '{"model": "auto", "messages": [{"role": "user", "content": "parcel? "}]}'
    )
    watch.page.get_by_role("combobox", name="Task").select_option("summarise")
    watch.page.get_by_role("button", name="Explain").click()
    shown = watch.page.locator("#explained")
    expect(shown).to_contain_text("It would go to cheap by rule short of task summarise")
    expect(shown).to_contain_text("It may cost $0.0100")
    watch.page.get_by_label("Budget in dollars").fill("0.0000001")
    watch.page.get_by_role("button", name="Explain").click()
    expect(shown).to_contain_text("It would be refused: No model of task 'summarise' fits")
    assert len(provider.calls) == calls


@pytest.mark.parametrize("text", ['{"model": "auto"', '{"model": "auto"}'])
def test_a_pasted_request_that_is_none_is_told(watch: Watched, proxy: Proxy, text: str) -> None:
    enter(watch.page, proxy)
    watch.page.get_by_label("A chat request as JSON").fill(text)
    watch.page.get_by_role("button", name="Explain").click()
    expect(watch.page.locator("#explained .bad")).to_be_visible()
    # The browser itself notes each answer of 400 as an error of the page.
    assert [error for error in watch.errors if "400" not in error] == []
    watch.errors.clear()


def test_the_keyboard_alone_suffices(watch: Watched, proxy: Proxy) -> None:
    page = watch.page
    page.goto(f"{proxy.url}/console")
    expect(page.get_by_label("Admin key")).to_be_focused()
    page.keyboard.type(ADMIN_KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("live")
    tab_to(page, "#period")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#time-most")).to_contain_text("per hour")
    tab_to(page, "#body")
    page.keyboard.type("Where is my parcel?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#explained")).to_contain_text("It would go to cheap")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus; every stop on the way must show where it is."""
    for _ in range(40):
        page.keyboard.press("Tab")
        assert page.evaluate(HAS_FOCUS_RING)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} was not reached by 40 tabs")


def test_names_and_texts_from_requests_are_text(watch: Watched, proxy: Proxy, provider: SimulatedProvider) -> None:
    """A stranger's name of a model is shown as it is, and the text of a request nowhere."""
    proxy.rewrite(claims=f"task: claims\nmatch: {{models: ['{HOSTILE}']}}\nroute: [{{use: cheap}}]\n")
    answer = proxy.ask("the magic word is swordfish", model=HOSTILE)
    assert answer.status_code == 200
    enter(watch.page, proxy)
    row = watch.page.locator(f"tr[data-id='{answer.headers['x-farthing-request-id']}']")
    expect(row).to_contain_text(HOSTILE)
    assert watch.page.title() == "Farthing console"
    assert watch.page.locator("main img").count() == 0
    assert "swordfish" not in watch.page.content()


def test_a_wrong_key_is_told_and_forgotten(watch: Watched, proxy: Proxy) -> None:
    page = watch.page
    page.goto(f"{proxy.url}/console")
    page.get_by_label("Admin key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#refused")).to_contain_text("This is not the admin key")
    expect(page.locator("#figures")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    assert "wrong" not in page.url
    assert [error for error in watch.errors if "401" not in error] == []
    watch.errors.clear()


def test_the_key_outlives_a_reload_and_not_its_button(watch: Watched, proxy: Proxy) -> None:
    enter(watch.page, proxy)
    watch.page.reload()
    expect(watch.page.locator("#status")).to_have_text("live")
    assert ADMIN_KEY not in watch.page.url
    watch.page.get_by_role("button", name="Forget the key").click()
    expect(watch.page.get_by_label("Admin key")).to_be_visible()
    assert watch.page.evaluate("sessionStorage.length + localStorage.length") == 0
    watch.errors.clear()


def test_a_proxy_that_is_away_is_told_and_found_again(watch: Watched, proxy: Proxy) -> None:
    enter(watch.page, proxy)
    watch.page.context.set_offline(True)
    expect(watch.page.locator("#status")).to_contain_text("does not answer")
    watch.page.context.set_offline(False)
    expect(watch.page.locator("#status")).to_have_text("live")
    watch.errors.clear()


@pytest.mark.parametrize("width", [1600, 1200, 1030, 800, 390])
def test_it_fits_and_contrasts_on_every_screen(
    browser: Browser, proxy: Proxy, provider: SimulatedProvider, width: int
) -> None:
    for _ in range(12):
        proxy.ask()
    with browser.new_context(viewport={"width": width, "height": 844}, reduced_motion="reduce") as context:
        page = context.new_page()
        enter(page, proxy)
        expect(page.locator("#requests tr").first).to_be_visible()
        page.get_by_label("A chat request as JSON").fill("Where is my parcel?")
        page.get_by_role("button", name="Explain").click()
        expect(page.get_by_role("columnheader", name="At most")).to_have_css("text-align", "right")
        grounds = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CUT_OFF) == [], "tables whose last columns or rows are out of sight"
            assert [pair for pair in page.evaluate(CONTRASTS) if pair[1] < 4.5] == []
        assert len(grounds) == 2, "each scheme has its own ground"


def test_the_first_ten_requests_are_shown_and_all_at_a_press(
    watch: Watched, proxy: Proxy, provider: SimulatedProvider
) -> None:
    for _ in range(12):
        proxy.ask()
    enter(watch.page, proxy)
    rows = watch.page.locator("#requests tr:visible")
    expect(rows).to_have_count(10)
    watch.page.get_by_role("button", name="Show all").click()
    expect(rows).not_to_have_count(10)
    assert rows.count() >= 12
    assert watch.page.evaluate(CUT_OFF) == []
    watch.page.get_by_role("button", name="Show the first 10").click()
    expect(rows).to_have_count(10)
    expect(watch.page.locator("button[aria-controls=tasks]")).to_be_hidden()


CUT_OFF = """() => [...document.querySelectorAll('.scroll')]
  .filter((one) => one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight)
  .map((one) => one.textContent.slice(0, 40))"""

HAS_FOCUS_RING = """() => {
  const element = document.activeElement;
  return element === document.body || getComputedStyle(element).outlineStyle !== "none";
}"""
"""The body has the focus in passing, where Tab goes from the last element to the first."""

CONTRASTS = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number)
      .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = getComputedStyle(at).backgroundColor;
      if (!found.endsWith(", 0)")) return luminance(found);
    }
    return 1;
  };
  const found = [];
  for (const node of document.querySelectorAll("main *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const [a, b] = [luminance(getComputedStyle(node).color), ground(node)].sort((x, y) => y - x);
    found.push([node.tagName + " " + node.className + " " + node.textContent.slice(0, 20), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
"""The contrast of every text with its ground; WCAG asks for 4.5."""


def test_without_an_admin_key_the_page_says_how_to_set_one(
    browser: Browser, provider: SimulatedProvider, tmp_path: Path
) -> None:
    files = {name: text.replace("URL", provider.base_url) for name, text in FILES.items()}
    with running_proxy(tmp_path, files) as proxy, browser.new_context() as context:
        found = watched(context, proxy)
        found.page.goto(f"{proxy.url}/console")
        expect(found.page.locator("#shut")).to_contain_text("FARTHING_ADMIN_KEY")
        expect(found.page.locator("#enter")).to_be_hidden()
        assert found.errors == []
