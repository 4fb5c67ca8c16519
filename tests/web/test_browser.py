"""The story of the page, in a real browser: a payer buys, a provider goes dark, one charge is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from tests.web.conftest import DESKTOP, PHONE, Shop

pytestmark = pytest.mark.browser

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SETTLES_MS = 30_000
LANGUAGES = ("en", "zh-CN")
WIDTHS = {"phone": PHONE, "desktop": DESKTOP}

PAID = {"en": "Paid", "zh-CN": "付款成功"}
ONCE = {"en": "One charge is kept, at South", "zh-CN": "只有一笔扣款，在南方通道"}


@pytest.fixture
def page(mended: Shop, phone: BrowserContext) -> Iterator[Page]:
    """A phone on the first page; anything that a script complains of fails the test."""
    opened = phone.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.goto(mended.url)
    yield opened
    assert not complaints


def panel_button(page: Page, provider: str, trouble: str) -> None:
    button = page.locator(f'form[action="/providers/{provider}"] button[value="{trouble}"]')
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")


def no_sideways_scroll(page: Page) -> None:
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen, f"the page is {wide} px wide in a window of {seen} px"


def accessible(page: Page) -> None:
    """Have axe-core look for violations of WCAG 2.2 A and AA."""
    page.evaluate(AXE.read_text())
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("rules => axe.run({ runOnly: rules })", rules)
    told = [f"{one['id']}: {node['html'][:120]}" for one in found["violations"] for node in one["nodes"]]
    assert not told, "\n".join(told)
    assert len(found["passes"]) > 15, "rules were applied at all"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_payment_goes_around_a_silent_provider_and_the_page_proves_one_charge(
    trusting: Shop, browser: Browser, language: str, width: str, scheme: str
) -> None:
    size: ViewportSize = WIDTHS[width]
    context = browser.new_context(
        viewport=size, locale=language, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(trusting.url)
    expect(page.locator("html")).to_have_attribute("lang", language)
    for place in ("h1", ".product >> nth=0", ".method >> nth=0", "button.pay", "#providers"):
        expect(page.locator(place)).to_be_visible()
    no_sideways_scroll(page)
    accessible(page)

    panel_button(page, "north", "mute")
    page.locator("button.pay").click()
    expect(page).to_have_url(re.compile("/checkout/pay_"))
    expect(page.locator(".track")).to_have_count(1)
    expect(page.locator(".track.doubt")).to_have_count(1)
    no_sideways_scroll(page)
    accessible(page)

    expect(page.locator("#story-title")).to_have_text(PAID[language], timeout=SETTLES_MS)
    expect(page.locator("#books-title")).to_have_text(ONCE[language], timeout=SETTLES_MS)
    expect(page.locator(".track")).to_have_count(2)
    expect(page.locator(".track.gone")).to_have_count(1, timeout=SETTLES_MS)
    expect(page.locator("[role=status]")).to_contain_text(PAID[language])
    assert PAID[language] in page.title()
    page.locator("#explain summary").click()
    expect(page.locator(".explain li").last).to_be_visible()
    if language == "zh-CN":
        for line in page.locator(".explain li").all_inner_texts():
            assert re.search("[一-鿿]{3}", line), f"{line!r} is in Chinese"
    no_sideways_scroll(page)
    accessible(page)
    kept = [
        row
        for rail in ("north", "south")
        for row in trusting.sandbox.ledger(rail)["charges"]
        if row["kept_minor"] > 0
    ]
    twice = {row["reference"] for row in kept if [r["reference"] for r in kept].count(row["reference"]) > 1}
    assert not twice, "no provider kept a charge twice"
    context.close()


def test_times_are_told_in_the_readers_own_zone(mended: Shop, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE, locale="en-US", timezone_id="Asia/Shanghai")
    page = context.new_page()
    page.goto(mended.url)
    page.locator("button.pay").click()
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    at = page.locator("time[data-moment]")
    begun = datetime.fromisoformat(at.get_attribute("datetime") or "").astimezone(ZoneInfo("Asia/Shanghai"))
    expect(at).to_contain_text(begun.strftime("%-I:%M:%S"))
    context.close()


def test_the_page_follows_without_a_reload(trusting: Shop, page: Page) -> None:
    panel_button(page, "north", "slow")
    page.locator("button.pay").click()
    expect(page).to_have_url(re.compile("/checkout/pay_"))
    page.evaluate("window.stayed = true")
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    assert page.evaluate("window.stayed") is True


def test_what_the_reader_opened_stays_open_while_the_story_goes_on(trusting: Shop, page: Page) -> None:
    panel_button(page, "north", "mute")
    page.locator("button.pay").click()
    expect(page.locator(".track")).to_have_count(1)
    page.locator("#explain summary").click()
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    expect(page.locator("#explain")).to_have_attribute("open", "")
    expect(page.locator("#explain summary")).to_be_focused()


def test_the_panel_works_in_place_and_mends_everything(mended: Shop, page: Page) -> None:
    page.evaluate("window.stayed = true")
    panel_button(page, "north", "dark")
    panel_button(page, "harbour", "refuse")
    expect(page.locator(".provider.trouble")).to_have_count(2)
    assert {f["fault"] for f in mended.sandbox.control("GET", "state")["faults"]} == {"dark", "refuse"}
    page.locator(".mend button").click()
    expect(page.locator(".provider.trouble")).to_have_count(0)
    expect(page.locator(".mend button")).to_be_disabled()
    assert mended.sandbox.control("GET", "state")["faults"] == []
    assert page.evaluate("window.stayed") is True


def test_everything_can_be_done_by_keyboard_alone(mended: Shop, page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, 'input[name="product"]:checked')
    page.keyboard.press("ArrowRight")
    expect(page.locator('input[value="tea"]')).to_be_checked()
    tab_to(page, 'input[name="method"]:checked')
    page.keyboard.press("ArrowDown")
    tab_to(page, 'input[name="fallback"]')
    page.keyboard.press("Space")
    expect(page.locator('input[name="fallback"]')).not_to_be_checked()
    tab_to(page, 'form[action="/providers/south"] button[value="slow"]')
    page.keyboard.press("Enter")
    expect(page.locator(".provider.trouble")).to_have_count(1)
    expect(page.locator('form[action="/providers/south"] button[value="slow"]')).to_be_focused()
    tab_to(page, "button.pay", back=True)
    page.keyboard.press("Enter")
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    expect(page.locator(".track").first).to_contain_text("UnionPay")


def tab_to(page: Page, selector: str, *, back: bool = False) -> None:
    """Press Tab until `selector` has the focus, and see that it shows."""
    for _ in range(60):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            shown = page.evaluate(
                """() => { const at = document.activeElement; const it = at.closest('label') ?? at;
                   return [at, it].some(one => getComputedStyle(one).outlineStyle !== 'none'); }"""
            )
            assert shown, f"the focus on {selector} can be seen"
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"{selector} cannot be reached by Tab")


def test_a_page_that_loses_its_server_catches_up_when_it_is_back(
    trusting: Shop, page: Page, phone: BrowserContext
) -> None:
    panel_button(page, "north", "mute")
    page.locator("button.pay").click()
    expect(page.locator(".track")).to_have_count(1)
    phone.set_offline(True)
    phone.set_offline(False)
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)


def test_a_browser_without_streams_asks_instead(trusting: Shop, phone: BrowserContext) -> None:
    phone.add_init_script("delete window.EventSource")
    page = phone.new_page()
    page.goto(trusting.url)
    panel_button(page, "north", "mute")
    page.locator("button.pay").click()
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    expect(page.locator(".track.gone")).to_have_count(1, timeout=SETTLES_MS)


def test_without_script_a_browser_pays_and_sees_the_end(mended: Shop, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE, locale="en-US", java_script_enabled=False)
    page = context.new_page()
    page.goto(mended.url)
    page.locator('form[action="/providers/north"] button[value="mute"]').click()
    expect(page.locator(".provider.trouble")).to_have_count(1)
    page.locator("button.pay").click()
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    expect(page.locator("#books-title")).to_contain_text("One charge is kept")
    context.close()


def test_paying_by_bank_waits_in_plain_words_and_ends_by_itself(mended: Shop, page: Page) -> None:
    page.get_by_text("Bank account").click()
    page.locator('input[name="fallback"]').uncheck()
    page.locator("button.pay").click()
    expect(page.locator(".track")).to_contain_text("Harbour")
    expect(page.locator("#story-title")).to_have_text("Paid", timeout=SETTLES_MS)
    expect(page.locator("#books-title")).to_have_text("One charge is kept, at Harbour")


def test_paying_from_the_balance_is_at_once_and_needs_no_provider(mended: Shop, page: Page) -> None:
    for provider in ("north", "south", "harbour"):
        panel_button(page, provider, "dark")
    page.get_by_text("Wallet balance").click()
    page.locator("button.pay").click()
    expect(page.locator("#story-title")).to_have_text("Paid")
    expect(page.locator(".track")).to_have_count(1)
    expect(page.locator(".books")).to_have_count(0)


def test_a_card_that_is_declined_everywhere_ends_unpaid_and_nothing_is_kept(mended: Shop, page: Page) -> None:
    panel_button(page, "north", "decline")
    panel_button(page, "south", "decline")
    page.locator('input[name="fallback"]').uncheck()
    page.locator("button.pay").click()
    expect(page.locator("#story-title")).to_have_text("Not paid", timeout=SETTLES_MS)
    expect(page.locator("#books-title")).to_have_text("No charge is kept")


def test_someone_who_wants_less_motion_gets_less(mended: Shop, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE, locale="en-US", reduced_motion="reduce")
    page = context.new_page()
    page.goto(mended.url)
    # The page's own style for what spins: a payment may be through before anyone looks.
    look = (
        "() => { const spin = document.createElement('span'); spin.className = 'spin';"
        " document.querySelector('main').append(spin); return getComputedStyle(spin).animationDuration }"
    )
    duration = page.evaluate(look)
    assert float(duration.removesuffix("s")) >= 5
    context.close()
