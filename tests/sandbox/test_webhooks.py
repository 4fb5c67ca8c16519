"""Webhooks arrive at least once, survive a receiver that is away, and misbehave as asked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from holdfast.adapters.rails.stripe_messages import check_signature
from holdfast.adapters.rails.wire import RailEventInvalid
from holdfast.sandbox.faults import Kind
from holdfast.sandbox.magic import OUTAGES
from tests.sandbox.conftest import Receiver
from tests.support.sandbox import Sandbox

SECRET = "whsec_sandbox_north"


async def pay(
    sandbox: Sandbox,
    instance: str = "north",
    amount: int = 1_000,
    card: str = "pm_card_visa",
    **metadata: str,
) -> dict[str, Any]:
    form = {
        "amount": str(amount),
        "currency": "usd",
        "payment_method": card,
        "confirm": "true",
        "capture_method": "manual",
        **{f"metadata[{key}]": value for key, value in metadata.items()},
    }
    headers = {"authorization": "Bearer sk_test_x"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(sandbox.at(instance) + "/v1/payment_intents", data=form) as answer,
    ):
        assert answer.status == 200, await answer.text()
        made: dict[str, Any] = await answer.json()
        return made


async def capture(sandbox: Sandbox, intent_id: str) -> None:
    async with (
        aiohttp.ClientSession(headers={"authorization": "Bearer sk_test_x"}) as session,
        session.post(f"{sandbox.at('north')}/v1/payment_intents/{intent_id}/capture") as answer,
    ):
        assert answer.status == 200


async def arrived(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(15):
        while len(receiver.taken) < count:
            await asyncio.sleep(0.01)
    return [json.loads(body) for _, body in receiver.taken]


def owed(sandbox: Sandbox) -> int:
    return int(sandbox.control("GET", "state")["instances"][0]["webhooks_owed"])


async def drained(sandbox: Sandbox) -> None:
    async with asyncio.timeout(15):
        while owed(sandbox):
            await asyncio.sleep(0.02)


async def test_what_happened_is_told_with_a_signature(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    intent = await pay(sandbox, order_id="o-1")
    await capture(sandbox, intent["id"])
    events = await arrived(receiver, 5)
    assert {e["type"] for e in events} == {
        "payment_intent.created",
        "payment_intent.amount_capturable_updated",
        "payment_intent.succeeded",
        "charge.succeeded",
        "charge.captured",
    }
    for headers, body in receiver.taken:
        check_signature(headers, body, SECRET, now_s=json.loads(body)["created"])
    assert all(e["data"]["object"]["metadata"] == {"order_id": "o-1"} for e in events)


async def test_a_receiver_that_was_away_gets_it_later(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    receiver.refuse = 3
    await pay(sandbox)
    events = await arrived(receiver, 3)
    assert len({e["id"] for e in events}) == 3
    await drained(sandbox)


async def test_duplicates_carry_the_same_id(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    sandbox.fault("north", "webhook_duplicate")
    await pay(sandbox)
    events = await arrived(receiver, 6)
    assert len({e["id"] for e in events}) == 3


async def test_reordered_webhooks_overtake_each_other(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    sandbox.fault("north", "webhook_reorder", latency_ms=300)
    for number in range(8):
        await pay(sandbox, order_id=str(number))
    events = await arrived(receiver, 24)
    numbers = [int(e["data"]["object"]["metadata"]["order_id"]) for e in events]
    assert numbers != sorted(numbers)


async def test_dropped_webhooks_never_come(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    sandbox.hooks("south", receiver.url)
    sandbox.fault("north", "webhook_drop")
    await pay(sandbox, order_id="dropped")
    await pay(sandbox, "south", order_id="kept")
    events = await arrived(receiver, 3)
    await drained(sandbox)
    assert {e["data"]["object"]["metadata"]["order_id"] for e in events} == {"kept"}


async def test_a_spoilt_signature_is_refused_by_whoever_checks(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    sandbox.fault("north", "bad_signature")
    await pay(sandbox)
    await arrived(receiver, 3)
    for headers, body in receiver.taken:
        with pytest.raises(RailEventInvalid):
            check_signature(headers, body, SECRET, now_s=json.loads(body)["created"])


async def test_a_dark_provider_keeps_its_webhooks_until_it_is_back(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.hooks("north", receiver.url)
    sandbox.fault("north", "webhook_delay", latency_ms=400)
    await pay(sandbox)
    sandbox.fault("north", "dark")
    await asyncio.sleep(0.8)  # well past the delay: only the darkness holds them back now
    assert receiver.taken == []
    assert owed(sandbox) == 3
    sandbox.mend()
    await arrived(receiver, 3)


BOTH_WAYS = pytest.mark.parametrize("by", ["card", "number", "amount"])


async def asked_for(sandbox: Sandbox, kind: Kind, by: str) -> dict[str, Any]:
    """Return how to pay so that the webhooks of that payment go wrong."""
    outage = next(one for one in OUTAGES if one.kind is kind)
    if by == "amount":
        return {"amount": outage.amount_minor}
    if by == "card":
        return {"card": outage.token}
    form = {"type": "card", "card[number]": outage.card_number}
    async with (
        aiohttp.ClientSession(headers={"authorization": "Bearer sk_test_x"}) as session,
        session.post(sandbox.at("north") + "/v1/payment_methods", data=form) as answer,
    ):
        return {"card": (await answer.json())["id"]}


def by_order(receiver: Receiver) -> Counter[str]:
    events = [json.loads(body) for _, body in receiver.taken]
    return Counter(event["data"]["object"]["metadata"]["order_id"] for event in events)


@BOTH_WAYS
async def test_a_card_or_an_amount_doubles_the_webhooks_of_its_payment_alone(
    sandbox: Sandbox, receiver: Receiver, by: str
) -> None:
    sandbox.hooks("north", receiver.url)
    how = await asked_for(sandbox, Kind.WEBHOOK_DUPLICATE, by)
    intent = await pay(sandbox, order_id="hit", **how)
    await pay(sandbox, order_id="spared")
    await capture(sandbox, intent["id"])
    await arrived(receiver, 13)
    await drained(sandbox)
    assert by_order(receiver) == {"hit": 10, "spared": 3}
    assert len({json.loads(body)["id"] for _, body in receiver.taken}) == 8


@BOTH_WAYS
async def test_a_card_or_an_amount_drops_the_webhooks_of_its_payment_alone(
    sandbox: Sandbox, receiver: Receiver, by: str
) -> None:
    sandbox.hooks("north", receiver.url)
    await pay(sandbox, order_id="hit", **await asked_for(sandbox, Kind.WEBHOOK_DROP, by))
    await pay(sandbox, order_id="spared")
    await arrived(receiver, 3)
    await drained(sandbox)
    assert by_order(receiver) == {"spared": 3}


@BOTH_WAYS
async def test_a_card_or_an_amount_spoils_the_signatures_of_its_payment_alone(
    sandbox: Sandbox, receiver: Receiver, by: str
) -> None:
    sandbox.hooks("north", receiver.url)
    await pay(sandbox, order_id="hit", **await asked_for(sandbox, Kind.BAD_SIGNATURE, by))
    await pay(sandbox, order_id="spared")
    await arrived(receiver, 6)
    told = Counter[tuple[str, bool]]()
    for headers, body in receiver.taken:
        event = json.loads(body)
        try:
            check_signature(headers, body, SECRET, now_s=event["created"])
            good = True
        except RailEventInvalid:
            good = False
        told[event["data"]["object"]["metadata"]["order_id"], good] += 1
    assert told == {("hit", False): 3, ("spared", True): 3}


@pytest.mark.parametrize("by", ["card", "amount"])
@pytest.mark.parametrize("kind", [Kind.WEBHOOK_DELAY, Kind.WEBHOOK_REORDER])
async def test_a_card_or_an_amount_delays_the_webhooks_of_its_payment_alone(
    sandbox: Sandbox, receiver: Receiver, kind: Kind, by: str
) -> None:
    sandbox.hooks("north", receiver.url)
    late = 1 if kind is Kind.WEBHOOK_DELAY else 4
    for _ in range(late):
        await pay(sandbox, order_id="hit", **await asked_for(sandbox, kind, by))
    await pay(sandbox, order_id="spared")
    events = await arrived(receiver, 3 + 3 * late)
    orders = [event["data"]["object"]["metadata"]["order_id"] for event in events]
    assert "hit" in orders[orders.index("spared") + 3 :], "what was asked for earlier came later"
    if kind is Kind.WEBHOOK_DELAY:
        assert orders == ["spared"] * 3 + ["hit"] * 3


async def test_the_refund_of_such_a_payment_goes_wrong_with_it(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("north", receiver.url)
    intent = await pay(sandbox, card="pm_card_webhook_duplicate")
    await capture(sandbox, intent["id"])
    async with (
        aiohttp.ClientSession(headers={"authorization": "Bearer sk_test_x"}) as session,
        session.post(
            sandbox.at("north") + "/v1/refunds", data={"payment_intent": intent["id"], "amount": "400"}
        ) as answer,
    ):
        assert answer.status == 200
    events = await arrived(receiver, 14)
    assert Counter(event["type"] for event in events)["refund.created"] == 2


async def test_a_magic_amount_doubles_what_the_bank_tells(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("harbour", receiver.url)
    for name, amount in (("hit", 300_014), ("spared", 1_000)):
        body = {
            "amount_minor": amount,
            "currency": "CNY",
            "debtor_account": "HB-0002-FAST",
            "expires_at": "2100-01-01T00:00:00+00:00",
        }
        async with (
            aiohttp.ClientSession(headers={"authorization": "Bearer sk_test_x"}) as session,
            session.post(f"{sandbox.at('harbour')}/v1/transfers/{name}", json=body) as answer,
        ):
            assert answer.status == 202
    events = await arrived(receiver, 3)
    assert Counter(event["data"]["end_to_end_id"] for event in events) == {"hit": 2, "spared": 1}


async def test_the_bank_tells_when_a_transfer_is_settled(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.hooks("harbour", receiver.url)
    body = {
        "amount_minor": 1_000,
        "currency": "CNY",
        "debtor_account": "HB-0001-OK",
        "expires_at": "2100-01-01T00:00:00+00:00",
    }
    async with (
        aiohttp.ClientSession(headers={"authorization": "Bearer sk_test_x"}) as session,
        session.post(sandbox.at("harbour") + "/v1/transfers/o-1", json=body) as answer,
    ):
        assert (answer.status, (await answer.json())["status"]) == (202, "received")
    (event,) = await arrived(receiver, 1)
    headers, raw = receiver.taken[0]
    Webhook("whsec_sandbox_harbour").verify(raw, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "b3RoZXI=" * 4).verify(raw, headers)
    assert (event["type"], event["data"]["end_to_end_id"]) == ("transfer.settled", "o-1")
    assert "_settles_ms" not in raw.decode()
