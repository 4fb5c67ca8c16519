"""The control API and the page, and the reference page that describes them."""

from __future__ import annotations

import html.parser
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from holdfast.cli.sandbox import command
from holdfast.sandbox import faults, magic
from holdfast.sandbox.model import DEFAULT_INSTANCES
from tests.support.browser import running_browser
from tests.support.sandbox import Sandbox

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "sandbox.md"


def fetch(
    sandbox: Sandbox, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(sandbox.url + path, body, names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()


def state(sandbox: Sandbox) -> Any:
    return sandbox.control("GET", "state")


# control


def test_a_fault_is_set_listed_and_taken_away(sandbox: Sandbox) -> None:
    fault_id = sandbox.fault("north", "slow", share=0.5, latency_ms=70, operations=["authorize"], seconds=60)
    (fault,) = state(sandbox)["faults"]
    assert (fault["id"], fault["share"], fault["latency_ms"]) == (fault_id, 0.5, 70)
    assert fault["operations"] == ["confirm", "create", "initiate"]
    assert fault["until_ms"] - fault["from_ms"] == 60_000
    assert state(sandbox)["instances"][0]["faults"] == [fault]
    assert state(sandbox)["instances"][1]["faults"] == []
    assert sandbox.control("DELETE", f"faults/{fault_id}") == {"mended": 1}
    assert fetch(sandbox, "DELETE", f"/_control/faults/{fault_id}")[0] == 404
    assert state(sandbox)["faults"] == []


def test_mending_one_provider_leaves_the_faults_of_others(sandbox: Sandbox) -> None:
    sandbox.fault("north", "slow")
    sandbox.fault("south", "slow")
    sandbox.mend("north")
    assert [f["instance"] for f in state(sandbox)["faults"]] == ["south"]
    sandbox.mend()
    assert state(sandbox)["faults"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b'{"fault": "nonsense"}', 422),
        (b'{"fault": "lost", "instance": "west"}', 404),
        (b'{"fault": "lost", "share": 2}', 422),
        (b'{"fault": "lost", "share": NaN}', 422),
        (b'{"fault": "lost"}', 201),
    ],
)
def test_what_cannot_be_set_is_refused_with_the_reason(sandbox: Sandbox, body: bytes, status: int) -> None:
    got, _, text = fetch(sandbox, "POST", "/_control/faults", body, content_type="application/json")
    assert got == status
    if status != 201:
        assert json.loads(text)["error"]["message"]
        assert state(sandbox)["faults"] == []


def test_a_page_elsewhere_cannot_set_faults_through_a_visitors_browser(sandbox: Sandbox) -> None:
    """A form of another site can send no JSON, and its origin is not ours."""
    lost = b'{"fault": "lost"}'
    assert fetch(sandbox, "POST", "/_control/faults", lost, content_type="text/plain")[0] == 422
    form = urlencode({"do": "break", "instance": "north", "fault": "lost"}).encode()
    plain = "application/x-www-form-urlencoded"
    assert fetch(sandbox, "POST", "/", form, content_type=plain, origin="http://elsewhere.example")[0] == 403
    assert state(sandbox)["faults"] == []


def test_a_reset_forgets_everything_but_where_webhooks_go(sandbox: Sandbox) -> None:
    sandbox.hooks("south", "http://127.0.0.1:9/x")
    sandbox.fault("north", "lost")
    sandbox.reset(seed=99)
    after = state(sandbox)
    assert (after["seed"], after["faults"]) == (99, [])
    assert after["instances"][1]["webhook_urls"] == ["http://127.0.0.1:9/x"]
    sandbox.hooks("south")


@pytest.mark.parametrize("path", ["/_control/ledger/west", "/west/v1/payment_intents", "/nothing"])
def test_what_is_not_there_is_not_found(sandbox: Sandbox, path: str) -> None:
    assert fetch(sandbox, "GET", path)[0] == 404


def test_webhook_addresses_must_be_addresses(sandbox: Sandbox) -> None:
    for urls in ("http://x", ["ftp://x"], [7], ["http://x"] * 11):
        body = json.dumps({"urls": urls}).encode()
        answer = fetch(sandbox, "PUT", "/_control/webhooks/north", body, content_type="application/json")
        assert answer[0] == 422


def test_the_book_counts_what_was_charged_twice_for_one_reference(sandbox: Sandbox) -> None:
    form = b"amount=1000&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[order_id]=o-1"
    for _ in range(2):
        status, _, _ = fetch(
            sandbox, "POST", "/north/v1/payment_intents", form, authorization="Bearer sk_test_x"
        )
        assert status == 200
    book = sandbox.ledger("north")
    assert book["charged_twice"] == ["o-1"]
    assert book["totals"]["USD"]["kept_minor"] == 2_000


# the page


class Reader(html.parser.HTMLParser):
    """Collects what a reader, and an assistive one, needs to find."""

    def __init__(self) -> None:
        super().__init__()
        self.lang = ""
        self.controls: list[tuple[str, dict[str, str | None]]] = []
        self.labelled = 0
        self.in_label = 0
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        if tag == "html":
            self.lang = str(named["lang"])
        if "id" in named:
            self.ids.append(str(named["id"]))
        if tag == "label":
            self.in_label += 1
        if tag in ("select", "input") and named.get("type") != "hidden":
            self.controls.append((tag, named))
            self.labelled += bool(self.in_label)

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self.in_label -= 1


@pytest.mark.parametrize(
    ("query", "accepted", "lang", "title"),
    [
        ("", "", "en", "Sandbox providers"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN", "沙盒支付服务商"),
        ("", "fr,en;q=0.5", "en", "Sandbox providers"),
        ("?lang=zh", "en", "zh-CN", "沙盒支付服务商"),
        ("?lang=xx", "", "en", "Sandbox providers"),
    ],
)
def test_the_page_speaks_chinese_and_english_and_labels_its_controls(
    sandbox: Sandbox, query: str, accepted: str, lang: str, title: str
) -> None:
    sandbox.fault("north", "lost")
    status, headers, text = fetch(sandbox, "GET", "/" + query, accept_language=accepted)
    reader = Reader()
    reader.feed(text)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert (reader.lang, f"<h1>{title}</h1>" in text) == (lang, True)
    assert reader.controls
    assert reader.labelled == len(reader.controls), "every control has a label"
    assert "script" not in reader.tags
    assert len(reader.ids) == len(set(reader.ids))
    assert 'name="viewport"' in text


def test_the_page_breaks_and_mends_without_scripts(sandbox: Sandbox) -> None:
    def submit(**form: str) -> tuple[int, dict[str, str], str]:
        plain = "application/x-www-form-urlencoded"
        return fetch(sandbox, "POST", "/", urlencode(form).encode(), content_type=plain, origin=sandbox.url)

    status, _, text = submit(
        do="break",
        instance="south",
        fault="slow",
        share="25",
        latency_ms="80",
        seconds="600",
        operation="capture",
    )
    assert status == 200, "it leads back to the page"
    (fault,) = state(sandbox)["faults"]
    assert (fault["instance"], fault["share"], fault["latency_ms"], fault["operations"]) == (
        "south", 0.25, 80, ["capture"],
    )  # fmt: skip
    assert "<strong>Slow</strong> <code>slow</code> 25 %" in text
    assert "· Capture" in text
    assert submit(do="mend", id=fault["id"])[0] == 200
    assert state(sandbox)["faults"] == []
    submit(do="break", instance="north", fault="lost", share="", latency_ms="", seconds="")
    assert state(sandbox)["faults"][0]["share"] == 1
    submit(do="mend_all")
    assert state(sandbox)["faults"] == []
    assert submit(do="break", instance="north", fault="lost", share="many")[0] == 422
    assert submit(do="dance")[0] == 422


def test_what_callers_write_is_shown_as_text(sandbox: Sandbox) -> None:
    form = urlencode({
        "amount": "1000", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true",
        "metadata[order_id]": "<script>alert(1)</script>",
    }).encode()  # fmt: skip
    for _ in range(2):
        fetch(sandbox, "POST", "/north/v1/payment_intents", form, authorization="Bearer sk_test_x")
    text = fetch(sandbox, "GET", "/")[2]
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(("lang", "at"), [("en", 0), ("zh", 1)])
def test_the_page_names_and_explains_every_fault_and_lists_its_card_and_amount(
    sandbox: Sandbox, lang: str, at: int
) -> None:
    text = html.unescape(fetch(sandbox, "GET", f"/?lang={lang}")[2])
    for kind, names in faults.NAMES.items():
        assert f'<option value="{kind.value}">{names[at]}</option>' in text
        assert f'<p class="why-{kind.value}"><code>{kind.value}</code>' in text
    row = r"<dd><code>(\d+)</code> <code>(\w+)</code></dd>.*?<code>([\d.]+)</code>"
    listed = re.findall(row, text, re.DOTALL)
    assert listed == [(one.card_number, one.token, f"3000.{one.number:02}") for one in magic.OUTAGES]
    assert "latency_ms" not in re.sub(r"<input[^>]*>", "", text), "an explanation speaks of what is seen"


@pytest.mark.parametrize(
    ("lang", "north", "harbour"),
    [
        ("en", "North · card provider", "Harbour · bank transfer"),
        ("zh", "北方通道 · 银行卡通道", "港湾银行 · 银行转账"),
    ],
)
def test_the_page_calls_the_providers_as_the_shop_does(
    sandbox: Sandbox, lang: str, north: str, harbour: str
) -> None:
    text = fetch(sandbox, "GET", f"/?lang={lang}")[2]
    assert f'<h2 id="name-north">{north}</h2>' in text
    assert f'<h2 id="name-harbour">{harbour}</h2>' in text
    assert "<code>/north/v1</code>" in text


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [
        ("usd", "99999999", "999999.99"),
        ("jpy", "99999999", "99999999"),
        ("chf", "4500", "4500 (minor units)"),
    ],
)
def test_the_page_shows_amounts_in_the_scale_of_their_currency(
    sandbox: Sandbox, currency: str, amount: str, shown: str
) -> None:
    form = f"amount={amount}&currency={currency}&payment_method=pm_card_visa&confirm=true".encode()
    fetch(sandbox, "POST", "/north/v1/payment_intents", form, authorization="Bearer sk_test_x")
    text = fetch(sandbox, "GET", "/?lang=en")[2]
    assert f"<caption>{currency.upper()}</caption>" in text
    assert f'<th scope="row">Kept</th><td>{shown}</td>' in text


@pytest.mark.parametrize(
    ("hook", "shop"),
    [
        ("http://127.0.0.1:8400/v1/rails/north/webhook", "http://127.0.0.1:8400/"),
        ("https://shop.example/v1/rails/north/webhook", "https://shop.example/"),
        ("http://user:word@shop.example/v1/rails/north/webhook", "http://shop.example/"),
        ("http://elsewhere.example/hooks", None),
        (None, None),
    ],
)
def test_the_page_links_to_the_shop_if_webhooks_tell_where_it_is(
    sandbox: Sandbox, hook: str | None, shop: str | None
) -> None:
    sandbox.hooks("north", *([hook] if hook else []))
    text = fetch(sandbox, "GET", "/?lang=en")[2]
    assert re.findall(r'<a href="([^"]+)">To the shop</a>', text) == ([shop] if shop else [])


def test_nothing_of_the_page_is_cut_off_on_a_telephone_or_a_desk(sandbox: Sandbox) -> None:
    big = b"amount=99999999&currency=usd&payment_method=pm_card_visa&confirm=true"
    for _ in range(12):
        fetch(sandbox, "POST", "/north/v1/payment_intents", big, authorization="Bearer sk_test_x")
    sandbox.fault("south", "webhook_reorder")
    with running_browser() as browser:
        for lang, width in [(lang, width) for lang in ("en", "zh") for width in (390, 1280)]:
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(f"{sandbox.url}/?lang={lang}")
            page.locator("summary").click()
            assert page.evaluate(WIDER_THAN_ITS_BOX) == [], (lang, width)
            for kind in ("refuse", "webhook_drop", "bad_signature"):
                page.locator("select[name=fault]").first.select_option(kind)
                shown = page.locator(".why").first.locator("p:visible")
                assert (shown.count(), shown.first.get_attribute("class")) == (1, f"why-{kind}")
            page.close()


WIDER_THAN_ITS_BOX = """[...document.querySelectorAll('*')].filter(
    one => one.scrollWidth > one.clientWidth + 1
    && getComputedStyle(one).display !== 'inline').map(one => one.outerHTML.slice(0, 90))"""


# the reference page


def rows_under(heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading of the reference page, without its head."""
    _, found, rest = REFERENCE.read_text().partition(f"\n## {heading}\n")
    assert found, heading
    section = re.split(r"\n## ", rest)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_reference_lists_every_option_of_the_command() -> None:
    told = set(re.findall(r"^\| `(--[a-z-]+)` \|", REFERENCE.read_text(), re.MULTILINE))
    assert told == {option for parameter in command.params for option in parameter.opts}


def test_the_reference_lists_every_fault_as_it_is_described() -> None:
    assert [row[:2] for row in rows_under("Faults")] == [
        [kind.value, english] for kind, (english, _) in faults.DESCRIPTIONS.items()
    ]


def test_the_reference_lists_every_operation() -> None:
    assert [[row[0], row[1].replace("`", "")] for row in rows_under("Operations")] == [
        [name, ", ".join(owns)] for name, owns in faults.OPERATIONS.items()
    ]


def test_the_reference_lists_every_instance_with_its_key_and_secret() -> None:
    assert rows_under("Instances") == [
        [one.name, one.protocol, f"/{one.name}/v1", one.api_key, one.webhook_secret]
        for one in DEFAULT_INSTANCES
    ]


def test_the_reference_lists_every_card() -> None:
    told = [row[:3] for row in rows_under("Cards")]
    made = []
    for card in magic.CARDS:
        does = card.decline_code or "pays"
        if card.outage:
            what = "webhooks" if card.outage.kind in faults.WEBHOOK_KINDS else "outage"
            does = f"{what}: {card.outage.kind.value}"
        elif card.needs_action:
            does = "needs authentication"
        elif card.refund != "succeeded":
            does = f"pays; its refunds are {card.refund}"
        made.append([card.token, card.number, does])
    assert told == made


def test_the_reference_lists_every_amount_and_account() -> None:
    assert rows_under("Amounts") == [
        [str(minor), outage.kind.value] for minor, outage in magic.AMOUNTS.items()
    ]
    assert [row[:2] for row in rows_under("Accounts of the bank")] == [
        [
            account.number,
            account.reason or f"settles at {account.pace:g} × the usual time"
            if account.pace
            else "never settles",
        ]
        for account in magic.ACCOUNTS.values()
    ]


def test_every_outage_card_number_passes_the_check_digit() -> None:
    for card in magic.CARDS:
        digits = [int(d) for d in reversed(card.number)]
        total = sum(d if n % 2 == 0 else sum(divmod(2 * d, 10)) for n, d in enumerate(digits))
        assert total % 10 == 0, card
