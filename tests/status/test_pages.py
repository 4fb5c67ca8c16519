"""The pages, in a real browser: both languages, a phone and a desk, readable by everybody, and checkable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from holdfast.status.board import Board
from holdfast.status.graph import default
from holdfast.status.notices.letters import letter
from holdfast.status.notices.told import Notice
from holdfast.status.store import Store
from tests.status.service import Service, service
from tests.support.waiting import until

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PLACES = ("", "zh/index.html", "history.html", "zh/really.html", "incident", "zh/incident")
TROUBLE = {
    "name": {"en": "Card provider North does not answer", "zh": "银行卡通道 North 无应答"},
    "body": {"en": "Cards go by another provider.", "zh": "银行卡支付改走其他通道。"},
    "components": {"north": "major_outage"},
    "cause": "technical",
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service with one incident, and the incident's id."""
    with service(tmp_path_factory.mktemp("status")) as one:
        status, made, _ = one.ask("POST", "/v1/incidents", TROUBLE, one.token("operator", "alice"))
        assert status == 201
        until(lambda: one.summary()["incidents"], "it is public", within_s=10)
        yield one, made["id"]


def opened(browser: Browser, url: str, viewport: ViewportSize, *, scripts: bool = True) -> Page:
    page = browser.new_context(viewport=viewport, java_script_enabled=scripts).new_page()
    page.goto(url)
    return page


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize(
    "place", ["", "zh/index.html", "history.html", "zh/really.html", "incident", "zh/incident"]
)
def test_each_page_fits_its_screen_and_can_be_read_by_everybody(
    browser: Browser, broken: tuple[Service, str], place: str, viewport: ViewportSize
) -> None:
    one, id_ = broken
    path = place.replace("incident", f"incidents/{id_}.html") if place.endswith("incident") else place
    page = browser.new_context(viewport=viewport, bypass_csp=True).new_page()
    page.goto(f"{one.url}/{path}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.locator("html").get_attribute("lang") == ("zh-CN" if place.startswith("zh/") else "en")
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")
    assert [(each["id"], [n["html"][:200] for n in each["nodes"]]) for each in found["violations"]] == []


def test_a_merchant_shows_our_banner_only_while_something_is_wrong(
    browser: Browser, broken: tuple[Service, str], tmp_path: Path
) -> None:
    one, _ = broken
    shop = tmp_path / "shop.html"
    shop.write_text(f'<h1>Shop</h1><iframe src="{one.url}/banner.html" title="Status"></iframe>')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened(browser, f"http://127.0.0.1:{server.server_port}/shop.html", PHONE)
        banner = page.frame_locator("iframe").locator("body")
        assert "Pay by card: Slower, or fails now and then" in banner.inner_text()
        server.shutdown()
    quiet = tmp_path / "well"
    quiet.mkdir()
    with service(quiet) as well:
        content, headers = well.ask("GET", "/zh/banner.html")[1], well.ask("GET", "/zh/banner.html")[2]
        assert b"role=" not in content
        assert "frame-ancestors *" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in well.ask("GET", "/")[2]["Content-Security-Policy"]


def test_the_page_says_everything_without_a_script(browser: Browser, broken: tuple[Service, str]) -> None:
    one, _ = broken
    page = opened(browser, one.url, PHONE, scripts=False)
    text = page.locator("main").inner_text()
    assert "Card provider North does not answer" in text
    assert "Paying from balance works." in text
    assert "never ask for your password" in text
    page.get_by_role("link", name="简体中文").click()
    assert "银行卡通道 North 无应答" in page.locator("main").inner_text()


@pytest.mark.parametrize("network", ["there", "gone"])
def test_a_message_can_be_told_from_a_forgery_in_the_browser_also_without_a_network(
    browser: Browser, broken: tuple[Service, str], tmp_path: Path, network: str
) -> None:
    one, _ = broken
    page = opened(browser, f"{one.url}/really.html", PHONE)
    if network == "gone":
        page.context.set_offline(True)
    notices = one.ask("GET", "/notices.json")[1]["notices"]
    assert len(notices) == 1
    (code,) = notices
    cases = {
        f"Your refund waits, click. Code {code}": "altered",
        "Your account is locked. Code HF-0000-0000": "no_code",
        "https://127.0.0.1.evil.net/login": "foreign",
        f"{one.url}/index.html": "contact",
        "Call me back, please.": "unknown",
    }
    for text, verdict in cases.items():
        page.get_by_label("Paste all of it").fill(text)
        page.get_by_role("button", name="Look").click()
        page.wait_for_selector(f"#verdict[data-verdict={verdict}]")


def test_a_notice_as_it_was_sent_is_ours_in_the_browser_and_by_command(
    browser: Browser, broken: tuple[Service, str], tmp_path: Path
) -> None:

    one, id_ = broken
    store = Store(one.folder / "data" / "status.sqlite3")
    incident = Board(store.entries()).incident(id_)
    store.close()
    texts = [
        letter("Holdfast", one.url, Notice(incident, incident.updates[0]), default(), tag).text
        for tag in ("en", "zh-CN")
    ]
    page = opened(browser, f"{one.url}/zh/really.html", DESKTOP)
    site = str(one.folder / "data" / "site" / "current")
    for text in texts:
        page.locator("#text").fill(f"From: us\n\n{text}\n--\nsent by my phone")
        page.get_by_role("button", name="检查").click()
        page.wait_for_selector("#verdict[data-verdict=ours]")
        saved = tmp_path / "message.txt"
        saved.write_text(text)
        told = one.command("really", str(saved), "--site", site, "--key", one.key)
        assert told.returncode == 0, told.stdout
        saved.write_text(text.replace("provider", "friend").replace("通道", "朋友"))
        assert one.command("really", str(saved), "--site", site, "--key", one.key).returncode == 1


def test_a_saved_page_is_checked_in_the_browser(
    browser: Browser, broken: tuple[Service, str], tmp_path: Path
) -> None:
    one, _ = broken
    content = one.ask("GET", "/zh/index.html")[1]
    good, forged = tmp_path / "good.html", tmp_path / "forged.html"
    good.write_bytes(content)
    forged.write_bytes(content.replace("银行卡".encode(), "密码卡".encode()))
    page = opened(browser, f"{one.url}/really.html", DESKTOP)
    page.get_by_label("The saved page").set_input_files(good)
    page.wait_for_selector("#said.ok")
    assert "Genuine. To be believed until" in page.locator("#said").inner_text()
    page.get_by_label("The saved page").set_input_files(forged)
    page.wait_for_selector("#said.no")
    assert "Not genuine" in page.locator("#said").inner_text()
