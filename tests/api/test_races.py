"""Requests that arrive at the same moment: balances and refunds stay right."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from uuid import uuid4

import pytest

from holdfast.base.ids import public
from tests.api.test_payments import asked, balance
from tests.api.world import Api, Server, Shop


def wire(shop: Shop, path: str, body: object, key: str | None = None) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "host: x",
        "content-type: application/json",
        f"authorization: Bearer {shop.key}",
        f"idempotency-key: {key or uuid4()}",
        f"content-length: {len(content)}",
        "connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


async def last_byte_together(server: Server, requests: list[bytes]) -> list[tuple[int, dict[str, object]]]:
    """Send all but the last byte of each request, then every last byte at once, so that they meet."""
    streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in requests]
    for (_, writer), request in zip(streams, requests, strict=True):
        writer.write(request[:-1])
    await asyncio.gather(*(writer.drain() for _, writer in streams))
    for (_, writer), request in zip(streams, requests, strict=True):
        writer.write(request[-1:])
    answers = []
    for raw in await asyncio.gather(*(reader.read() for reader, _ in streams)):
        head, _, body = raw.partition(b"\r\n\r\n")
        answers.append((int(head[9:12]), json.loads(body)))
    for _, writer in streams:
        writer.close()
    return answers


@pytest.mark.parametrize("amount_minor", [300_000, 10_001, 1_000_000])
def test_v5_0_0_15_4_2_a_hundred_payments_at_once_never_spend_a_balance_twice(
    server: Server, api: Api, shop: Shop, amount_minor: int
) -> None:
    requests = [wire(shop, "/v1/payments", asked(shop, amount_minor)) for _ in range(100)]
    answers = asyncio.run(last_byte_together(server, requests))
    affordable = 1_000_000 // amount_minor
    assert Counter(status for status, _ in answers) == Counter({201: affordable, 402: 100 - affordable})
    assert balance(api, shop.payer_id) == 1_000_000 - affordable * amount_minor
    assert balance(api, public("mer", shop.merchant.id)) == affordable * amount_minor


def test_v5_0_0_2_3_4_payments_transfers_and_holds_at_once_never_spend_a_balance_twice(
    server: Server, api: Api, shop: Shop
) -> None:
    seed = int(os.environ.get("SEED", random.randrange(10**9)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    merchant = public("mer", shop.merchant.id)
    for _ in range(5):
        before = balance(api, shop.payer_id)
        requests = []
        for _ in range(40):
            amount = chance.randrange(1, 100_000)
            kind = chance.randrange(3)
            if kind == 0:
                requests.append(wire(shop, "/v1/payments", asked(shop, amount)))
            elif kind == 1:
                requests.append(wire(shop, "/v1/payments", asked(shop, amount, capture="manual")))
            else:
                body = {
                    "source": shop.payer_id,
                    "destination": merchant,
                    "amount": {"asset": "CNY", "amount_minor": amount},
                }
                requests.append(wire(shop, "/v1/transfers", body))
        answers = asyncio.run(last_byte_together(server, requests))
        assert {status for status, _ in answers} <= {201, 402, 422}, answers
        spent = sum(a["amount"]["amount_minor"] for status, a in answers if status == 201)  # type: ignore[index]
        assert balance(api, shop.payer_id) == before - spent
        assert before - spent >= 0


def test_v5_0_0_2_3_4_refunds_at_once_never_exceed_what_was_captured(
    server: Server, api: Api, shop: Shop
) -> None:
    made = api.post("/v1/payments", asked(shop, 10_000)).json()
    body = {"payment": made["id"], "amount_minor": 6_000}
    answers = asyncio.run(last_byte_together(server, [wire(shop, "/v1/refunds", body) for _ in range(10)]))
    won = [told for status, told in answers if status == 201]
    assert len(won) == 1, answers
    assert {told["code"] for status, told in answers if status != 201} <= {"refund_too_much", "payment_busy"}
    assert api.get(f"/v1/payments/{made['id']}").json()["refunded_minor"] == 6_000
    assert balance(api, shop.payer_id) == 1_000_000 - 4_000


def test_captures_at_once_take_what_is_held_once(server: Server, api: Api, shop: Shop) -> None:
    for _ in range(5):
        before = balance(api, shop.payer_id)
        held = api.post("/v1/payments", asked(shop, 500, capture="manual")).json()["id"]
        requests = [wire(shop, f"/v1/payments/{held}/{act}", {}) for act in ("capture", "capture")]
        requests.append(wire(shop, f"/v1/payments/{held}/capture", {"amount_minor": 200}))
        asyncio.run(last_byte_together(server, requests))
        state = api.get(f"/v1/payments/{held}").json()
        assert state["state"] == "succeeded"
        assert state["captured_minor"] in (500, 200)
        assert balance(api, shop.payer_id) == before - state["captured_minor"]
