"""Webhook rules: the standard's own vector, its ladder, and the addresses that are refused at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from holdfast.base.secret import Secret
from holdfast.domains.webhooks import Result, rules
from holdfast.domains.webhooks.errors import EndpointUrlInvalid

NOW = datetime(2026, 11, 11, tzinfo=UTC)


def test_a_message_is_signed_as_the_standards_own_example() -> None:
    headers = rules.signed_headers(
        [Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
        now=datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "content-type": "application/json",
    }


def test_a_new_secret_is_of_the_standards_form_and_verifies_what_it_signed() -> None:
    secret = rules.new_secret(bytes(range(32)))
    assert secret.reveal().startswith("whsec_")
    now = datetime.now(UTC)
    headers = rules.signed_headers([secret, rules.new_secret(bytes(32))], "evt_1", '{"中":"文"}', now=now)
    for each in (secret, rules.new_secret(bytes(32))):
        assert Webhook(each.reveal()).verify('{"中":"文"}', headers) == {"中": "文"}


def result(status: int | None, *, retry_after_s: float | None = None) -> Result:
    return Result(status, "", 5, "", retry_after_s)


def test_the_ladder_is_the_standards_and_each_pause_grows_by_at_most_a_fifth() -> None:
    waits = []
    for rung in range(1, 10):
        shortest = rules.judge(result(500), rung=rung, now=NOW, failing_since=None, chance=0.0)
        longest = rules.judge(result(500), rung=rung, now=NOW, failing_since=None, chance=1.0)
        assert shortest.next_at is not None
        assert longest.next_at is not None
        waits.append((shortest.next_at - NOW).total_seconds())
        assert (longest.next_at - NOW).total_seconds() == pytest.approx(waits[-1] * 1.2)
    hour = 3600
    assert waits == [5, 300, 1800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    last = rules.judge(result(500), rung=10, now=NOW, failing_since=NOW, chance=0.0)
    assert (last.outcome, last.next_at, last.disable) == ("given_up", None, "")


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert rules.judge(result(status), rung=3, now=NOW, failing_since=NOW, chance=0.5).outcome == "delivered"


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 400, 401, 404, 409, 429, 500, 503])
def test_anything_else_is_tried_again_redirects_included(status: int | None) -> None:
    assert rules.judge(result(status), rung=1, now=NOW, failing_since=None, chance=0.5).outcome == "again"


def test_410_ends_the_delivery_and_switches_the_endpoint_off() -> None:
    verdict = rules.judge(result(410), rung=1, now=NOW, failing_since=None, chance=0.5)
    assert verdict.outcome == "given_up"
    assert "410" in verdict.disable


def test_an_endpoint_that_took_nothing_for_five_days_is_switched_off_when_a_delivery_is_given_up() -> None:
    since = NOW - timedelta(days=5)
    assert rules.judge(result(500), rung=10, now=NOW, failing_since=since, chance=0.5).disable
    assert not rules.judge(result(500), rung=9, now=NOW, failing_since=since, chance=0.5).disable


@pytest.mark.parametrize(("asked_s", "waited_s"), [(3.0, 5.0), (600.0, 600.0), (1e9, 86_400.0)])
def test_an_endpoint_may_ask_for_a_longer_pause_but_not_for_ever(asked_s: float, waited_s: float) -> None:
    verdict = rules.judge(result(429, retry_after_s=asked_s), rung=1, now=NOW, failing_since=None, chance=0.0)
    assert verdict.next_at == NOW + timedelta(seconds=waited_s)


@pytest.mark.parametrize(
    "url",
    [
        "http://merchant.example/hooks",
        "ftp://merchant.example",
        "https://",
        "//merchant.example",
        "https://user:pw@merchant.example",
        "https://merchant.example/#x",
        "https://merchant.example:0/",
        "https://merchant.example:99999/",
        "https://localhost/",
        "https://api.localhost/",
        "https://printer.local/",
        "https://db.internal/",
        "https://intranet/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://merchant.example/" + "a" * 2048,
        "https://merchant.example/a b",
        "https://merchant.example/\n",
    ],
)
def test_an_address_that_cannot_be_a_merchants_is_refused_when_it_is_given(url: str) -> None:
    with pytest.raises(EndpointUrlInvalid):
        rules.check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url", ["https://merchant.example/hooks", "https://merchant.example:8443/h?x=1", "https://8.8.8.8/"]
)
def test_a_public_address_is_taken(url: str) -> None:
    assert rules.check_url(url, allow_private=False) == url


def test_a_private_address_is_taken_where_it_is_allowed() -> None:
    assert rules.check_url("http://127.0.0.1:9000/hooks", allow_private=True)
    with pytest.raises(EndpointUrlInvalid):
        rules.check_url("gopher://127.0.0.1/", allow_private=True)
