"""Another way to pay while a payment is in doubt: the payer's own choice, and never two charges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.support.waiting import until
from tests.web.conftest import Shop, form_of, settled
from tests.web.test_browser import accessible, no_sideways_scroll, tab_to

RAILS = ("north", "south")
SETTLES_MS = 60_000


@pytest.fixture
def client(trusting: Shop) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=trusting.url, timeout=10, headers={"accept-language": "en"}) as opened:
        yield opened


def fall_silent(shop: Shop) -> None:
    """Make both card providers act and never say so, whatever they are asked."""
    for rail in RAILS:
        shop.sandbox.fault(rail, "mute", operations=["confirm", "capture", "query", "cancel"])
        shop.sandbox.fault(rail, "webhook_drop")


def in_doubt(shop: Shop, client: httpx.Client) -> str:
    """Pay by card alone while both providers are silent; return the path of the payment, once in doubt."""
    fall_silent(shop)
    form = form_of(client)
    del form["fallback"]
    path = client.post("/checkout", data=form).headers["location"]
    until(lambda: 'id="instead"' in client.get(path).text, "the page offers another way", within_s=60)
    return str(path)


def offers(page: str) -> dict[str, str]:
    """Return what a page offers: words of the button, and the method that it names."""
    found = re.findall(r'<button class="quiet" name="method" value="(ins_\w+)">([^<]+)</button>', page)
    return {words: method for method, words in found}


def test_a_payer_who_would_rather_not_wait_pays_another_way_and_one_charge_is_kept(
    trusting: Shop, client: httpx.Client
) -> None:
    path = in_doubt(trusting, client)
    page = client.get(path).text
    assert "North and South" in page
    assert "If you would rather not wait" in page
    offered = offers(page)
    assert set(offered) == {
        "Cancel it and pay with UnionPay ending 0005",
        "Cancel it and pay with Wallet balance",
        "Cancel it and pay with Bank account",
    }, "what it has tried is not offered"
    balance = offered["Cancel it and pay with Wallet balance"]
    bank = offered["Cancel it and pay with Bank account"]

    foreign = {"sec-fetch-site": "cross-site"}
    assert client.post(f"{path}/instead", data={"method": balance}, headers=foreign).status_code == 403
    for wrong in ("", "ins_00000000000000000000000000", form_of(client)["method"]):
        assert client.post(f"{path}/instead", data={"method": wrong}).status_code == 422
    assert offers(client.get(path).text) == offered, "what was refused has cancelled nothing"

    def press(method: str) -> str:
        return str(httpx.post(f"{trusting.url}{path}/instead", data={"method": method}).headers["location"])

    with ThreadPoolExecutor(4) as hands:
        led = set(hands.map(press, [balance] * 4))
    led |= {press(balance), press(bank)}
    assert len(led) == 1, "however often a button is pressed, one payment takes the first one's place"
    second = led.pop()
    assert second != path
    paid = settled(client, second)
    assert ">Paid</h1>" in paid
    assert "Paid from your balance." in paid
    assert "Your first payment is being undone." in paid
    assert f'href="{path}"' in paid
    first = client.get(path).text
    assert ">Being undone</h1>" in first
    assert f'href="{second}"' in first
    assert not offers(first)

    trusting.sandbox.mend()

    def undone() -> str | None:
        page = client.get(path).text
        return page if ">Called off</h1>" in page and "data-settled" in page else None

    assert "No charge is kept" in str(until(undone, "the first payment is undone", within_s=120))
    assert "Your first payment was undone" in client.get(second).text
    assert press(bank) == second, "nor does a late press open another"


def test_a_payment_that_is_over_is_shown_and_not_replaced(trusting: Shop, client: httpx.Client) -> None:
    page = client.get("/").text
    balance = re.search(r'value="(ins_[^"]+)"[^>]*>\s*<span class="method-name">Wallet balance', page)
    assert balance
    path = client.post("/checkout", data=form_of(client)).headers["location"]
    settled(client, path)
    answer = client.post(f"{path}/instead", data={"method": balance[1]})
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = client.get(path).text
    assert ">Paid</h1>" in page
    assert 'class="note"' not in page


@pytest.mark.browser
def test_another_way_is_announced_and_can_be_chosen_by_keyboard_alone(
    trusting: Shop, phone: BrowserContext
) -> None:
    page = phone.new_page()
    page.goto(trusting.url)
    page.locator('input[name="fallback"]').uncheck()
    fall_silent(trusting)
    page.locator("button.pay").click()
    expect(page.locator("#instead")).to_be_visible(timeout=SETTLES_MS)
    expect(page.locator("[role=status]")).to_contain_text("Rather not wait?")
    no_sideways_scroll(page)
    accessible(page)
    tab_to(page, "#instead button:nth-of-type(2)")
    page.keyboard.press("Enter")
    expect(page.locator("#story-title")).to_have_text("Paid")
    expect(page.locator(".note")).to_contain_text("is being undone")
    accessible(page)
    page.locator(".note a").click()
    expect(page.locator("#story-title")).to_have_text("Being undone")
    trusting.sandbox.mend()
    expect(page.locator("#books-title")).to_have_text("No charge is kept", timeout=120_000)
