"""The operators' pages, in a browser, with nothing of the wallet there."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import axe_playwright_python
import pyotp
import pytest
from playwright.sync_api import Browser, Page

from holdfast.base.clock import SystemClock
from holdfast.status.operators import FAILURES_MAX, OperatorInvalid, Operators, SignInTooOften, SignInWrong
from holdfast.status.store import Store
from tests.status.service import Service, service
from tests.support.waiting import until

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
PASSWORD = "a long night at the till"


class At(SystemClock):
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 11, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def operators(tmp_path: Path) -> Iterator[tuple[Operators, At]]:
    store, clock = Store(tmp_path / "status.sqlite3"), At()
    yield Operators(store, clock), clock
    store.close()


def code(secret: str, at: datetime) -> str:
    return pyotp.TOTP(secret).at(at)


def test_v5_0_0_6_5_1_a_code_is_used_once_and_a_session_ends(operators: tuple[Operators, At]) -> None:
    one, clock = operators
    secret = one.add("alice", PASSWORD)
    digits = code(secret, clock.moment)
    token = one.sign_in("alice", PASSWORD, digits)
    with pytest.raises(SignInWrong):
        one.sign_in("alice", PASSWORD, digits)
    session = one.session(token)
    assert session is not None
    assert session.name == "alice"
    assert one.session("other") is None
    clock.moment += timedelta(minutes=59)
    assert one.session(token) is not None
    clock.moment += timedelta(minutes=61)
    assert one.session(token) is None
    clock.moment += timedelta(minutes=1)
    token = one.sign_in("alice", PASSWORD, code(secret, clock.moment))
    one.remove("alice")
    assert one.session(token) is None


def test_v5_0_0_6_3_1_guessing_is_stopped_after_a_few_tries(operators: tuple[Operators, At]) -> None:
    one, clock = operators
    secret = one.add("alice", PASSWORD)
    for name, password, digits in (
        ("alice", "wrong", code(secret, clock.moment)),
        ("alice", PASSWORD, "000000"),
        ("alice", PASSWORD, code(secret, clock.moment + timedelta(minutes=5))),
        ("alice", PASSWORD, ""),
        ("alice", "", code(secret, clock.moment)),
    ):
        with pytest.raises(SignInWrong):
            one.sign_in(name, password, digits)
    assert FAILURES_MAX == 5
    with pytest.raises(SignInTooOften):
        one.sign_in("alice", PASSWORD, code(secret, clock.moment))
    with pytest.raises(SignInWrong):
        one.sign_in("nobody", PASSWORD, "123456")
    clock.moment += timedelta(minutes=5)
    assert one.sign_in("alice", PASSWORD, code(secret, clock.moment))


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("a", "short"), ("a", "x" * 129), ("x" * 61, PASSWORD)]
)
def test_v5_0_0_6_2_1_short_passwords_are_refused(
    operators: tuple[Operators, At], name: str, password: str
) -> None:
    with pytest.raises(OperatorInvalid):
        operators[0].add(name, password)


def test_v5_0_0_11_4_2_no_password_is_kept(operators: tuple[Operators, At], tmp_path: Path) -> None:
    operators[0].add("alice", PASSWORD)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("status.sqlite3*"))
    assert PASSWORD.encode() not in kept


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("console")
    with service(folder) as one:
        secrets = {}
        for name in ("alice", "bob"):
            data = str(folder / "data")
            made = subprocess.run(
                [sys.executable, "-m", "holdfast", "status", "operator", name, "--data", data],
                input=f"{PASSWORD}\n{PASSWORD}\n", capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            secrets[name] = made.stdout.strip().rpartition(" ")[2]
        yield one, secrets


def signed_in(
    browser: Browser, running: tuple[Service, dict[str, str]], name: str, locale: str, width: int
) -> Page:
    one, secrets = running
    page = browser.new_context(
        locale=locale, viewport={"width": width, "height": 900}, bypass_csp=True
    ).new_page()
    page.goto(one.url + "/console")
    for _ in range(40):  # a code is good once, so a second sign-in waits for the next
        page.fill("#name", name)
        page.fill("#password", PASSWORD)
        page.fill("#code", pyotp.TOTP(secrets[name]).now())
        page.click("main button")
        if page.url.endswith("/console"):
            return page
        time.sleep(8)
    raise AssertionError("no sign-in")


def sound(page: Page) -> None:
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")
    assert [(each["id"], [n["html"][:200] for n in each["nodes"]]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.browser
def test_an_operator_opens_tells_and_plans_on_a_phone_and_a_second_person_approves(
    browser: Browser, running: tuple[Service, dict[str, str]]
) -> None:
    one, _ = running
    page = signed_in(browser, running, "alice", "zh-CN", 390)
    assert page.inner_text("h1") == "总体状况"
    sound(page)
    page.click("text=新建事件")
    page.fill("#open-name-en", "Top-up waits")
    page.fill("#open-name-zh", "充值延迟")
    page.fill("#open-body-zh", "正在调查。")
    page.select_option("#open-c", "top-up")
    page.select_option("#open-s", "degraded_performance")
    page.click("text=新建并发布")
    assert page.inner_text("h1") == "充值延迟"
    page.select_option("#template", "provider")
    page.get_by_role("button", name="发布", exact=True).click()
    assert "服务商无应答" in page.inner_text("ol.updates")
    sound(page)
    until(lambda: [i["status"] for i in one.summary()["incidents"]] == ["identified"], "it is public")
    page.select_option("#template", "over")
    page.get_by_role("button", name="发布", exact=True).click()
    assert "概要：充值延迟" in page.input_value("#pm-zh")
    sound(page)
    page.get_by_role("button", name="发布事后总结").click()
    assert "根本原因" in page.inner_text("ol.updates")
    page.click("text=监管报告")
    sound(page)
    page.select_option("#media", "yes")
    page.fill("#clients_affected", "12")
    page.fill("#countries", "de fr")
    page.click("text=保存")
    assert page.input_value("#countries") == "DE FR"
    page.fill("#clients_affected", "many")
    page.click("text=保存")
    assert "not a whole number" in page.inner_text("[role=alert]")
    page.goto(one.url + "/console/maintenance?lang=en")
    sound(page)
    soon = datetime.now(UTC) + timedelta(hours=1)
    page.fill("#name_en", "Weekly care")
    page.fill("#body_en", "Ten minutes.")
    page.fill("#starts_at", f"{soon:%Y-%m-%dT%H:%M}")
    page.fill("#ends_at", f"{soon + timedelta(minutes=10):%Y-%m-%dT%H:%M}")
    page.fill("#rule", "FREQ=WEEKLY")
    page.click("text=Plan it")
    assert page.locator("article", has_text="Weekly care").count() >= 8
    page.locator("section", has_text="Again and again").get_by_label("Why it ends").fill("No more of it.")
    page.click("text=End it")
    assert page.locator("article", has_text="Weekly care").count() == 0
    page.fill("#name_en", "New lines")
    page.fill("#body_en", "North moves.")
    page.select_option("#component", "north")
    page.fill("#starts_at", f"{soon:%Y-%m-%dT%H:%M}")
    page.fill("#ends_at", f"{soon + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    page.click("text=Plan it")
    assert "5 working days beforehand" in page.inner_text("[role=alert]")
    assert page.input_value("#name_en") == "New lines"
    page.fill("#reason", "a leak in the roof")
    page.click("text=Plan it")
    assert "Waits for a second person" in page.inner_text("main")
    assert page.is_disabled("text=Approve, as a second person")
    other = signed_in(browser, running, "bob", "en-GB", 1280)
    other.goto(one.url + "/console/maintenance")
    other.click("text=Approve, as a second person")
    assert "Approved by bob" in other.inner_text("main")
    sound(other)
    until(lambda: one.summary()["scheduled_maintenances"], "it is public")
    other.click("text=Sign out")
    other.goto(one.url + "/console")
    assert other.url.endswith("/console/sign-in")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "path", ["subscribe.html", "zh/subscribe.html", "maintenance.html", "zh/maintenance.html"]
)
def test_the_public_pages_of_plans_and_subscriptions_are_sound(
    browser: Browser, running: tuple[Service, dict[str, str]], path: str, width: int
) -> None:
    page = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=True).new_page()
    page.goto(f"{running[0].url}/{path}")
    sound(page)


def test_v5_0_0_3_5_1_nothing_changes_without_a_session_or_from_another_site(
    running: tuple[Service, dict[str, str]],
) -> None:
    one, _ = running
    for path in ("/console/incidents", "/console/declare", "/console/maintenance", "/console/sign-out"):
        request = urllib.request.Request(one.url + path, b"form=x&component=north", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.url.endswith("/console/sign-in")
    request = urllib.request.Request(
        one.url + "/console/sign-in", b"name=alice", {"Origin": "https://evil.example"}, method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 400


@pytest.mark.browser
def test_an_operator_splits_an_incident(browser: Browser, running: tuple[Service, dict[str, str]]) -> None:
    one, _ = running
    body = {
        "name": {"en": "Two things"}, "body": {"en": "We look."},
        "components": {"south": "major_outage", "harbour": "major_outage"},
    }  # fmt: skip
    id_ = one.ask("POST", "/v1/incidents", body, one.token("operator", "carol"))[1]["id"]
    page = signed_in(browser, running, "bob", "en-GB", 390)
    page.goto(f"{one.url}/console/incidents/{id_}")
    sound(page)
    page.get_by_label("Bank transfers by Harbour").check()
    page.fill("#split-en", "Harbour alone")
    page.get_by_role("button", name="Split").click()
    assert page.inner_text("h1") == "Harbour alone"
    assert "It was part of: Two things" in page.inner_text("ol.updates")
