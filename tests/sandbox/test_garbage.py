"""Whatever is sent to it, the sandbox answers as a provider would, and never breaks."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from tests.support.sandbox import Sandbox

NAMES = [
    "amount",
    "currency",
    "payment_method",
    "confirm",
    "capture_method",
    "metadata",
    "metadata[a]",
    "metadata[a][b]",
    "metadata[]",
    "card",
    "card[number]",
    "type",
    "expand",
    "expand[]",
    "expand[0][x]",
    "limit",
    "starting_after",
    "ending_before",
    "query",
    "payment_intent",
    "charge",
    "reason",
    "amount_to_capture",
    "cancellation_reason",
    "]",
    "[",
    "a]b",
    "a[",
    "payment_method_types[]",
    "off_session",
]
VALUES = (
    "", "0", "1", "-1", "1000", "1e3", "١٢", "9" * 40, "usd", "US", "true", "false", "maybe", "manual",
    "card", "nul\0", "pm_card_visa", "pm_card_chargeDeclined", "pi_none",
    "metadata['order_id']:'x'", "x" * 6_000, "汉字",
)  # fmt: skip
PATHS = [
    "payment_intents",
    "payment_intents/search",
    "payment_intents/pi_1",
    "payment_intents/pi_1/confirm",
    "payment_intents/pi_1/capture",
    "payment_intents/pi_1/cancel",
    "refunds",
    "refunds/re_1",
    "charges",
    "charges/ch_1",
    "payment_methods",
    "payment_methods/pm_1",
    "events",
    "events/evt_1",
    "balance",
    "transfers/t-1",
    "transfers/t-1/returns/r-1",
    "settlement",
    "transfers/%00",
    "..",
    "%",
    "payment_intents/%F0%9F%92%A5",
]


def odd_json(chance: Random) -> bytes:
    made: dict[str, Any] = {
        name: chance.choice(
            [None, 1, -1, 1.5, True, "USD", "HB-1", "2100-01-01T00:00:00Z", [], {}, 2**60, "1e999"]
        )
        for name in chance.sample(["amount_minor", "currency", "debtor_account", "expires_at", "x"], 4)
    }
    return (
        json.dumps(made).encode()
        if chance.random() < 0.8
        else bytes(chance.randrange(256) for _ in range(50))
    )


@pytest.mark.parametrize("instance", ["north", "harbour"])
async def test_nothing_that_is_sent_breaks_it(sandbox: Sandbox, instance: str) -> None:
    seed = Random().randrange(2**32)
    print(f"seed {seed}")
    chance = Random(seed)
    headers = {"authorization": "Bearer sk_test_x"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as session:
        for _ in range(600):
            method = chance.choice(["GET", "POST", "POST", "DELETE", "PUT"])
            pairs = [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.randrange(6))]
            body = urlencode(pairs).encode() if instance == "north" else odd_json(chance)
            if chance.random() < 0.05:
                body = bytes(chance.randrange(256) for _ in range(40))
            more = {"idempotency-key": chance.choice(["a", "b", "k" * 300])} if chance.random() < 0.3 else {}
            path = f"/v1/{chance.choice(PATHS)}?{urlencode(pairs) if method == 'GET' else ''}"
            async with session.request(
                method, sandbox.at(instance) + path, data=body, headers=more
            ) as answer:
                assert answer.status < 500, (method, path, body, await answer.text())


async def test_a_body_that_is_too_large_is_refused(sandbox: Sandbox) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(sandbox.at("north") + "/v1/payment_intents", data=b"x" * 1_000_000) as answer,
    ):
        assert answer.status == 413


async def test_strange_instance_names_are_not_found(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        for name in ("west", "_control", "%2e%2e", quote("ノース"), "north%2f"):
            async with session.get(f"{sandbox.url}/{name}/v1/charges") as answer:
                assert answer.status == 404, name
