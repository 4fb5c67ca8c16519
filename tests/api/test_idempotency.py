"""A wish is carried out once, however often and however concurrently it is sent."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from holdfast.api.context import Reply
from holdfast.api.once import Ticket, claimed_first
from holdfast.base.errors import OutcomeUnknown
from holdfast.base.ids import PaymentId, public
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.errors import AccountMissing, WriterAway
from holdfast.domains.ledger.model import Unit, UnitOutcome
from holdfast.domains.payments.model import Method, NewPayment
from holdfast.flows import pay
from holdfast.platform import idempotency
from tests.api.test_payments import asked, balance
from tests.api.world import Api, Server, Shop, opened, shop_now

MOVES_MONEY = [
    ("a payment", "/v1/payments", asked),
    ("a refund", "/v1/refunds", lambda shop: {"payment": "pay_00000000000000000000000000"}),
    ("a transfer", "/v1/transfers", lambda shop: transfer(shop, 50)),
    (
        "a top-up",
        "/v1/top_ups",
        lambda shop: {"payer": shop.payer_id, "amount": {"asset": "CNY", "amount_minor": 5}},
    ),
    ("a payer", "/v1/payers", lambda shop: {"name": "Pei"}),
    ("a webhook endpoint", "/v1/webhook_endpoints", lambda shop: {"url": "https://example.com/hook"}),
]


def transfer(shop: Shop, amount_minor: int) -> dict[str, object]:
    return {
        "source": shop.payer_id,
        "destination": public("mer", shop.merchant.id),
        "amount": {"asset": "CNY", "amount_minor": amount_minor},
    }


@pytest.mark.parametrize(
    ("path", "body"), [row[1:] for row in MOVES_MONEY], ids=[row[0] for row in MOVES_MONEY]
)
def test_without_a_key_nothing_is_begun(api: Api, shop: Shop, path: str, body: object) -> None:
    refused = api.post(path, body(shop), key=None)  # type: ignore[operator]
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_missing")


@pytest.mark.parametrize("key", ["", '""', "k" * 129, '"unended', "tab\there"])
def test_a_key_that_is_malformed_is_refused(api: Api, shop: Shop, key: str) -> None:
    refused = api.post("/v1/payments", asked(shop), key=None, headers={"idempotency-key": key})
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_invalid")


def test_a_repeat_gets_the_first_answer_byte_for_byte_and_moves_nothing(api: Api, shop: Shop) -> None:
    key = str(uuid4())
    first = api.post("/v1/payments", asked(shop), key=key)
    again = api.post("/v1/payments", asked(shop), key=key)
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (201, None)
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (201, "true")
    assert again.content == first.content
    assert balance(api, shop.payer_id) == 1_000_000 - 1_000


def test_a_quoted_key_and_the_same_key_bare_are_one(api: Api, shop: Shop) -> None:
    key = str(uuid4())
    first = api.post("/v1/payments", asked(shop), key=f'"{key}"')
    again = api.post("/v1/payments", asked(shop), key=key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


def test_an_error_is_repeated_too_even_when_the_cause_has_gone(api: Api, shop: Shop) -> None:
    key = str(uuid4())
    body = asked(shop, 1_000_000)
    assert api.post("/v1/payments", asked(shop, 1)).status_code == 201
    first = api.post("/v1/payments", body, key=key)
    assert first.status_code == 402
    there = transfer(shop, 1)
    back = there | {"source": there["destination"], "destination": there["source"]}
    assert api.post("/v1/transfers", back).status_code == 201
    assert balance(api, shop.payer_id) == 1_000_000
    again = api.post("/v1/payments", body, key=key)
    assert (again.status_code, again.content) == (402, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == "application/problem+json"


def test_a_refusal_is_repeated_as_it_was(api: Api, shop: Shop) -> None:
    key = str(uuid4())
    body = {"payment": "pay_00000000000000000000000000"} | asked(
        shop, methods=["ins_00000000000000000000000000"]
    )
    del body["payment"]
    first = api.post("/v1/payments", body, key=key)
    assert (first.status_code, first.json()["code"]) == (404, "instrument_not_found")
    again = api.post("/v1/payments", body, key=key)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


def test_a_key_with_another_payload_is_refused_and_moves_nothing(api: Api, shop: Shop) -> None:
    key = str(uuid4())
    api.post("/v1/payments", asked(shop, 100), key=key)
    refused = api.post("/v1/payments", asked(shop, 101), key=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert balance(api, shop.payer_id) == 1_000_000 - 100


def test_a_key_with_another_path_is_refused(api: Api, shop: Shop) -> None:
    key = str(uuid4())
    held = [api.post("/v1/payments", asked(shop, 100, capture="manual")).json()["id"] for _ in range(2)]
    assert api.post(f"/v1/payments/{held[0]}/cancel", key=key).status_code == 200
    refused = api.post(f"/v1/payments/{held[1]}/cancel", key=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


def test_the_same_key_from_two_merchants_is_two_wishes(server: Server) -> None:
    one, two = shop_now(server.dsn), shop_now(server.dsn)
    key = str(uuid4())
    first = Api(server.url, one.key).post("/v1/payments", asked(one), key=key)
    second = Api(server.url, two.key).post("/v1/payments", asked(two), key=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert "idempotent-replayed" not in second.headers
    assert first.json()["payer"] == one.payer_id
    assert second.json()["payer"] == two.payer_id


@pytest.mark.parametrize("path", ["/v1/payments", "/v1/transfers"])
def test_v5_0_0_15_4_2_many_at_once_with_one_key_are_carried_out_once(
    server: Server, api: Api, shop: Shop, path: str
) -> None:
    key = str(uuid4())
    body = asked(shop, 700) if path == "/v1/payments" else transfer(shop, 700)

    def send(_: int) -> tuple[int, str]:
        client = Api(server.url, shop.key)
        answer = client.post(path, body, key=key)
        client.close()
        return answer.status_code, answer.json().get("code", answer.json()["id"] if answer.is_success else "")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(20)))
    assert {status for status, _ in answers} <= {201, 409}, answers
    made = {told for status, told in answers if status == 201}
    assert len(made) == 1
    assert {told for status, told in answers if status == 409} <= {"idempotency_in_progress"}
    assert balance(api, shop.payer_id) == 1_000_000 - 700


def test_after_a_crash_between_opening_and_answering_a_repeat_gets_the_present_state(
    server: Server, api: Api, shop: Shop
) -> None:
    """The claim and the payment are durable, the answer is not: so a server that dies leaves them."""
    key, body = (
        str(uuid4()),
        b'{"amount":{"asset":"CNY","amount_minor":900},"payer":"' + shop.payer_id.encode() + b'"}',
    )

    async def half() -> str:
        app = await opened(server.dsn)
        try:
            wallet = await app.instruments.wallet(shop.payer)
            method = wallet.instruments[0]
            id_ = PaymentId(app.ids.new())
            claim = idempotency.claim(
                shop.merchant.id.hex,
                key,
                idempotency.fingerprint("POST /v1/payments", body),
                public("pay", id_),
                app.clock.now(),
            )
            wanted = NewPayment(
                shop.merchant.id,
                shop.payer,
                Money(asset("CNY"), 900),
                (Method(method.id, method.kind.value, method.label, method.token),),
            )
            await pay.create(app.desk, wanted, id=id_, claim=claim)
            return public("pay", id_)
        finally:
            await app.close()

    made = asyncio.run(half())
    again = api.http.post(
        "/v1/payments", content=body, headers={"idempotency-key": key, "content-type": "application/json"}
    )
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (201, made, "succeeded")
    assert balance(api, shop.payer_id) == 1_000_000 - 900


def test_after_a_crash_right_after_the_key_was_taken_a_repeat_has_the_work_done(
    server: Server, api: Api, shop: Shop
) -> None:
    """The key of a capture was taken and the server died before it: 409 for a while, then it is done."""
    held = api.post("/v1/payments", asked(shop, 400, capture="manual")).json()["id"]
    fresh, old = str(uuid4()), str(uuid4())
    path = f"/v1/payments/{held}/capture"

    async def take(key: str, age_s: int) -> None:
        app = await opened(server.dsn)
        try:
            claim = idempotency.claim(
                shop.merchant.id.hex,
                key,
                idempotency.fingerprint(f"POST {path}", b""),
                held,
                app.clock.now() - timedelta(seconds=age_s),
            )
            assert (await app.lane.submit(Unit(guards=(claim,)))).status == "committed"
        finally:
            await app.close()

    asyncio.run(take(fresh, 0))
    waiting = api.post(path, key=fresh)
    assert (waiting.status_code, waiting.json()["code"]) == (409, "idempotency_in_progress")
    assert int(waiting.headers["retry-after"]) >= 1
    asyncio.run(take(old, 60))
    done = api.post(path, key=old)
    assert (done.status_code, done.json()["state"]) == (200, "succeeded")
    assert balance(api, shop.payer_id) == 1_000_000 - 400


async def test_keys_are_forgotten_when_their_time_is_over(dsn: str) -> None:
    app = await opened(dsn)
    try:
        now = app.clock.now()
        for key, age in (("old", 31), ("young", 29)):
            claim = idempotency.claim("merchant", key, b"f" * 16, "pay_1", now - timedelta(days=age))
            answer = idempotency.answer("merchant", key, 201, b"{}")
            await app.lane.submit(Unit(guards=(claim,), writes=(answer,)))
        assert await idempotency.forget_before(app.database, now - timedelta(days=30)) == 1
        assert await idempotency.find(app.database, "merchant", "old") is None
        kept = await idempotency.find(app.database, "merchant", "young")
        assert kept is not None
        assert kept.answer == idempotency.StoredAnswer(201, b"{}")
    finally:
        await app.close()


async def test_the_first_answer_stays(dsn: str) -> None:
    app = await opened(dsn)
    try:
        claim = idempotency.claim("merchant", "k", b"f" * 16, "pay_1", app.clock.now())
        await app.lane.submit(
            Unit(guards=(claim,), writes=(idempotency.answer("merchant", "k", 201, b"first"),))
        )
        await app.lane.submit(Unit(writes=(idempotency.answer("merchant", "k", 500, b"second"),)))
        kept = await idempotency.find(app.database, "merchant", "k")
        assert kept is not None
        assert kept.answer == idempotency.StoredAnswer(201, b"first")
    finally:
        await app.close()


@pytest.mark.parametrize("refused", [False, True])
async def test_when_the_answer_cannot_be_kept_nobody_says_that_nothing_has_moved(refused: bool) -> None:
    class NoMoreAnswers:
        async def submit(self, unit: Unit) -> UnitOutcome:
            if unit.guards:
                return UnitOutcome("committed")
            raise WriterAway

    async def work(_: str, again: bool) -> Reply:
        assert not again
        if refused:
            raise AccountMissing
        return Reply(201, b"{}")

    app: Any = SimpleNamespace(app=SimpleNamespace(lane=NoMoreAnswers()))
    held = Ticket("merchant", "key", b"fingerprint")
    claim = idempotency.claim("merchant", "key", b"fingerprint", "tr_1", datetime.now(UTC))
    with pytest.raises(OutcomeUnknown, match="same Idempotency-Key"):
        await claimed_first(app, held, "tr_1", work).do(claim, held)
