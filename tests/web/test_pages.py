"""The pages over plain HTTP, as a browser without script uses them, against the real thing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from holdfast.base.ids import parse, public
from holdfast.base.limits import PAGE_STREAMS_MAX
from holdfast.flows import demo
from holdfast.platform.postgres import EmbeddedPostgres
from tests.support.running import free_port, running
from tests.support.waiting import until
from tests.web.conftest import Shop, form_of, load_demo, settled


@pytest.fixture
def client(mended: Shop) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=mended.url, timeout=10, headers={"accept-language": "en"}) as opened:
        yield opened


def silence(client: httpx.Client, provider: str) -> None:
    """Make a provider act and never say so, as the panel does."""
    assert client.post(f"/providers/{provider}", data={"trouble": "mute"}).status_code == 303


def test_without_script_the_form_pays_and_its_page_reloads_until_it_is_settled(
    trusting: Shop, client: httpx.Client
) -> None:
    silence(client, "north")
    answer = client.post("/checkout", data=form_of(client))
    assert answer.status_code == 303
    path = answer.headers["location"]
    first = client.get(path).text
    assert '<noscript><meta http-equiv="refresh"' in first
    page = settled(client, path)
    assert 'http-equiv="refresh"' not in page
    assert '<h1 id="story-title">Paid</h1>' in page
    assert "One charge is kept, at South" in page, page


def test_a_form_sent_twice_pays_once(client: httpx.Client) -> None:
    form = form_of(client)
    first, second = (client.post("/checkout", data=form).headers["location"] for _ in range(2))
    assert first == second
    assert first != client.post("/checkout", data=form_of(client)).headers["location"]
    settled(client, first)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/checkout", "/checkout/pay_1/instead", "/providers/north", "/providers/mend"]
)
def test_forms_of_other_sites_are_not_obeyed(
    client: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    form = form_of(client) | {"trouble": "dark"}
    answer = client.post(path, data=form, headers=headers)
    assert answer.status_code == 403
    assert "text/html" in answer.headers["content-type"]
    assert client.get("/").text.count('class="provider well"') == 3


@pytest.mark.parametrize(
    "change",
    [
        {"product": "yacht"},
        {"method": "ins_00000000000000000000000000"},
        {"order": "1"},
        {"order": ""},
        {"order": "ord_" + "Z" * 26},
    ],
)
def test_a_form_that_makes_no_sense_is_refused_with_a_page(
    client: httpx.Client, change: dict[str, str]
) -> None:
    answer = client.post("/checkout", data=form_of(client) | change)
    assert answer.status_code in (404, 422)
    assert "<html" in answer.text


def test_payments_that_are_not_the_shops_are_not_shown(mended: Shop, client: httpx.Client) -> None:
    unknown = public("pay", parse("ord", form_of(client)["order"]))
    for path in ("", "/story", "/events"):
        assert client.get(f"/checkout/{unknown}{path}").status_code == 404
        assert client.get(f"/checkout/pay_1{path}").status_code == 404


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROBLEM = "application/problem+json"


@pytest.mark.parametrize("path", ["/nothing-here", "/docs/x", "/a/b/c", "/checkout/pay_1/x/y", "/providers"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_leads_nowhere_shows_a_browser_a_page_and_a_program_the_problem(
    client: httpx.Client, path: str, method: str
) -> None:
    page = client.request(method, path, headers={"accept": BROWSER})
    unknown = client.get("/checkout/pay_unknown", headers={"accept": BROWSER})
    assert page.status_code == unknown.status_code == 404
    assert page.text == unknown.text
    assert 'href="/"' in page.text
    chinese = client.request(method, path, headers={"accept": BROWSER, "accept-language": "zh-CN"})
    assert "找不到页面" in chinese.text
    for accept in ("application/json", PROBLEM, "*/*"):
        answer = client.request(method, path, headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
        assert answer.json()["code"] == "not_found"
    assert client.head(path, headers={"accept": BROWSER}).status_code == 404


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/payments/a/b/c", "/v1/"])
def test_the_api_answers_a_browser_in_json_too(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"accept": BROWSER})
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)


def test_the_address_of_a_form_leads_to_the_page_that_has_it(client: httpx.Client) -> None:
    for path, home in (
        ("/checkout", "/"),
        ("/providers/north", "/"),
        ("/checkout/pay_1/confirm", "/checkout/pay_1"),
        ("/checkout/pay_1/instead", "/checkout/pay_1"),
    ):
        assert client.get(path, headers={"accept": BROWSER}).headers["location"] == home


def test_pages_run_nothing_inline_and_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    path = client.post("/checkout", data=form_of(client)).headers["location"]
    for page in (answer.text, settled(client, path)):
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"\s(style|on\w+)=", page)
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", page)
    script = re.search(r'src="(/static/page\.js\?[0-9a-f]+)"', answer.text)
    assert script
    assert client.get(script[1]).status_code == 200


def test_a_link_changes_the_language_and_it_stays(client: httpx.Client) -> None:
    assert '<html lang="en">' in client.get("/").text
    assert '<html lang="zh-CN">' in client.get("/?lang=zh-CN").text
    assert '<html lang="zh-CN">' in client.get("/").text


def test_the_panel_without_script_comes_back_to_its_page_and_to_no_other_site(
    mended: Shop, client: httpx.Client
) -> None:
    answer = client.post("/providers/south", data={"trouble": "slow", "back": "/checkout/x"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/checkout/x")
    assert [f["fault"] for f in mended.sandbox.control("GET", "state")["faults"]] == ["slow"]
    for back in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nx: y"):
        assert client.post("/providers/mend", data={"back": back}).headers["location"] == "/"
    assert mended.sandbox.control("GET", "state")["faults"] == []


@pytest.mark.parametrize(("provider", "trouble"), [("east", "dark"), ("north", "explode"), ("north", "")])
def test_the_panel_knows_its_providers_and_troubles_only(
    client: httpx.Client, provider: str, trouble: str
) -> None:
    assert client.post(f"/providers/{provider}", data={"trouble": trouble}).status_code == 422


def events(shop: Shop, path: str, headers: dict[str, str], *, count: int = 1000) -> list[dict[str, str]]:
    """Read server-sent events from a real socket until `count` came or the stream is settled."""
    got: list[dict[str, str]] = []
    with httpx.stream("GET", shop.url + path + "/events", headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line and name:
                event[name] = event.get(name, "") + value
            elif "event" in event:
                got.append(event)
                if len(got) == count or event["event"] == "settled":
                    break
                event = {}
            else:
                event = {}
    return got


def test_a_stream_that_breaks_off_goes_on_where_it_was(trusting: Shop, client: httpx.Client) -> None:
    silence(client, "north")
    path = client.post("/checkout", data=form_of(client)).headers["location"]
    before = events(trusting, path, {}, count=1)
    after = events(trusting, path, {"last-event-id": before[-1]["id"]})
    assert before[-1]["event"] == "story"
    assert after[-1]["event"] == "settled"
    assert "Paid" in after[-1]["data"]
    positions = [tuple(map(int, one["id"].split("."))) for one in before + after]
    assert positions == sorted(positions), "what was seen never goes back"
    assert len(set(positions)) > 2
    again = events(trusting, path, {"last-event-id": after[-1]["id"]})
    assert [one["event"] for one in again] == ["settled"]


def test_streams_that_were_left_make_room_and_too_many_at_once_are_turned_away(
    mended: Shop, client: httpx.Client
) -> None:
    client.post("/providers/harbour", data={"trouble": "dark"})
    form = form_of(client) | {"method": method_of(client, "Bank account"), "fallback": "no"}
    url = mended.url + client.post("/checkout", data=form).headers["location"] + "/events"
    with ExitStack() as held:
        for _ in range(PAGE_STREAMS_MAX):
            assert held.enter_context(stream(url)).status_code == 200
        assert held.enter_context(stream(url)).status_code == 503
    until(lambda: answers(url), "there is room again", within_s=30)


@contextmanager
def stream(url: str) -> Iterator[httpx.Response]:
    """Open a stream and read its first line; leave it at the end."""
    with httpx.stream("GET", url, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)  # while this iterator lives, the connection is kept
        yield answer
        del lines


def answers(url: str) -> bool:
    with stream(url) as answer:
        return answer.status_code == 200


def test_a_server_that_dies_while_paying_loses_nothing(trusting: Shop, client: httpx.Client) -> None:
    silence(client, "north")
    port = free_port()
    environment = trusting.environment | {"HOLDFAST_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    with running("serve", trusting.folder, environment, ready=f"{url}/readyz") as second:
        with httpx.Client(base_url=url, timeout=10) as other:
            path = other.post("/checkout", data=form_of(client)).headers["location"]
            until(lambda: 'class="track ' in other.get(path).text, "the first try is under way")
        second.kill()
    trusting.sandbox.mend()
    page = str(until(lambda: paid(client, path), "a worker finishes it", within_s=120))
    assert "One charge is kept" in page


def test_a_payment_that_was_opened_and_left_charges_nothing_until_its_page_is_told_to_go_on(
    mended: Shop, client: httpx.Client
) -> None:
    opened = client.post(
        "/v1/payments",
        json={
            "payer": public("pyr", demo.PAYER),
            "amount": {"asset": "CNY", "amount_minor": 500},
            "confirm": False,
        },
        headers={"authorization": f"Bearer {demo.API_KEY.reveal()}", "idempotency-key": "left-at-the-door"},
    )
    assert opened.status_code == 201, opened.text
    path = "/checkout/" + opened.json()["id"]
    page = client.get(path).text
    assert "Nothing has been charged." in page
    assert f'action="{path}/confirm"' in page
    assert client.post(f"{path}/confirm").headers["location"] == path
    assert ">Paid</h1>" in settled(client, path)
    assert client.post(f"{path}/confirm").status_code == 303, "told twice, it does nothing more"
    assert "One charge is kept" in settled(client, path)


def paid(client: httpx.Client, path: str) -> str | None:
    page = client.get(path).text
    return page if "data-settled" in page and ">Paid</h1>" in page else None


def test_when_the_sandbox_is_away_the_shop_says_so_and_stays(mended: Shop) -> None:
    port = free_port()
    environment = mended.environment | {"HOLDFAST_PORT": str(port), "HOLDFAST_SANDBOX_PORT": str(free_port())}
    url = f"http://127.0.0.1:{port}"
    with (
        running("serve", mended.folder, environment, ready=f"{url}/readyz"),
        httpx.Client(base_url=url, timeout=10, headers={"accept-language": "en"}) as client,
    ):
        assert "The sandbox does not answer" in client.get("/").text
        assert client.post("/providers/mend", data={}).status_code == 503
        form = form_of(client) | {"method": method_of(client, "Wallet balance")}
        assert ">Paid</h1>" in settled(client, client.post("/checkout", data=form).headers["location"])


def method_of(client: httpx.Client, label: str) -> str:
    found = re.search(rf'value="(ins_[^"]+)"[^>]*>\s*<span class="method-name">{label}', client.get("/").text)
    assert found
    return found[1]


def test_in_production_there_is_no_shop_no_checkout_and_no_panel(
    postgres: EmbeddedPostgres, mended: Shop, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = mended.environment | {"HOLDFAST_PORT": str(port), "HOLDFAST_MODE": "production"}
    path = "/checkout/pay_01M83P9YGEESATPND1EM2682FW"
    with (
        running("serve", tmp_path, environment, ready=f"{url}/readyz"),
        httpx.Client(base_url=url, timeout=10, headers={"accept-language": "en"}) as client,
    ):
        page = client.get("/")
        assert page.status_code == 200
        assert "Merchants use the API" in page.text
        assert "<form" not in page.text
        for method, where in (
            ("POST", "/checkout"),
            ("POST", "/providers/north"),
            ("POST", "/providers/mend"),
            ("GET", path),
            ("GET", path + "/story"),
            ("GET", path + "/events"),
            ("POST", path + "/confirm"),
            ("POST", path + "/instead"),
        ):
            assert client.request(method, where).status_code == 404, where
    assert mended.sandbox.control("GET", "state")["faults"] == []


def test_demo_data_is_refused_in_production_and_loads_twice_without_a_change(mended: Shop) -> None:
    refused = load_demo(mended.environment | {"HOLDFAST_MODE": "production"})
    assert refused.returncode == 1
    assert "never loaded in production" in refused.stderr
    with httpx.Client(base_url=mended.url, timeout=10, headers={"accept-language": "en"}) as client:
        before = re.findall(r'class="method".*?</label>', client.get("/").text, re.DOTALL)
        assert load_demo(mended.environment).returncode == 0
        assert re.findall(r'class="method".*?</label>', client.get("/").text, re.DOTALL) == before


def test_a_slow_sender_of_a_form_holds_nothing_up(mended: Shop, client: httpx.Client) -> None:
    host, _, port = mended.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as slow:
        slow.sendall(b"POST /checkout HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\norder=")
        assert client.get("/").status_code == 200
