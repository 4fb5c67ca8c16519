"""Many transfers in one request: an outcome for each, all or none on demand, once however often sent."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from holdfast.api.context import Api as Context
from holdfast.api.context import Reply
from holdfast.api.errors import TABLE, MerchantOverloaded, Overloaded
from holdfast.api.once import InProgress
from holdfast.api.transfer_batches import OPERATION, create, place
from holdfast.base.ids import IdSource, TransferId, public
from holdfast.base.limits import (
    BATCH_BODY_BYTES_MAX,
    BATCH_ITEMS_MAX,
    BATCHES_AT_WORK_MAX,
    BATCHES_PER_MERCHANT_MAX,
)
from holdfast.boot import App
from holdfast.domains.ledger.model import NewTransfer, Unit
from holdfast.domains.merchants import KeyInvalid, Role
from holdfast.flows import chart
from holdfast.platform import idempotency
from tests.api.test_access import key_of
from tests.api.test_payments import balance
from tests.api.world import Api, Server, Shop, make_payer, make_shop, opened, shop_now

PATH = "/v1/transfers/batch"
FUNDED = 1_000_000
IDS = IdSource(lambda: time.time_ns() // 1_000_000)


def mer(shop: Shop) -> str:
    return public("mer", shop.merchant.id)


def item(shop: Shop, amount_minor: object = 5, **more: object) -> dict[str, Any]:
    amount = {"asset": "CNY", "amount_minor": amount_minor}
    return {"source": shop.payer_id, "destination": mer(shop), "amount": amount, **more}


def outcomes(told: dict[str, Any]) -> list[str]:
    return [one["outcome"] for one in told["transfers"]]


def test_every_transfer_has_its_outcome_in_order_and_one_that_is_refused_stops_no_other(
    api: Api, shop: Shop
) -> None:
    nobody = "pyr_00000000000000000000000000"
    asked = [
        item(shop, 700, reference="order-7", metadata={"table": "4"}),
        item(shop, FUNDED),
        item(shop, 5) | {"source": nobody},
        item(shop, 5) | {"destination": "x"},
        item(shop, 5) | {"destination": "mer_00000000000000000000000000"},
        item(shop, 5) | {"amount": {"asset": "XYZ", "amount_minor": 5}},
        item(shop, 5) | {"destination": shop.payer_id},
        item(shop, 300),
    ]
    answer = api.post(PATH, {"transfers": asked})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert outcomes(told) == [
        "posted", "exceeds_credits", "payer_not_found", "id_invalid", "merchant_not_found", "asset_unknown",
        "accounts_must_differ", "posted",
    ]  # fmt: skip
    assert [one.get("field", "") for one in told["transfers"]] == [
        "", "source", "source", "destination", "destination", "amount.asset", "destination", "",
    ]  # fmt: skip
    assert (told["posted"], told["exists"], told["refused"], told["all_or_none"]) == (2, 0, 6, False)
    assert [one["amount_minor"] for one in told["transfers"]] == [700, 0, 0, 0, 0, 0, 0, 300]
    for one in told["transfers"]:
        assert one["outcome"] in {"posted", "exists", *TABLE}
        assert (one["outcome"] == "posted") is ("detail" not in one)
    assert balance(api, shop.payer_id) == FUNDED - 1_000
    statement = api.get(f"/v1/accounts/{shop.payer_id}/CNY/statement").json()["data"]
    assert [line["id"] for line in statement[:2]] == [
        told["transfers"][7]["transfer"],
        told["transfers"][0]["transfer"],
    ]
    assert statement[1]["metadata"] == {"reference": "order-7", "table": "4"}


def test_what_one_transfer_brings_the_next_may_spend(api: Api, shop: Shop) -> None:
    other = api.post("/v1/payers", {"name": "Mei"}).json()["id"]
    there, back = item(shop, 500) | {"destination": other}, item(shop, 500) | {"source": other}
    assert outcomes(api.post(PATH, {"transfers": [back, there, back]}).json()) == [
        "exceeds_credits", "posted", "posted",
    ]  # fmt: skip


def test_an_id_of_yours_moves_once_in_whatever_batch_it_is_sent(api: Api, shop: Shop) -> None:
    for own in (IDS.new(), uuid4()):
        before = balance(api, shop.payer_id)
        once = item(shop, 100, id=str(own))
        first = api.post(PATH, {"transfers": [once, once]}).json()
        again = api.post(PATH, {"transfers": [once | {"id": own.hex.upper()}, item(shop, 101, id=str(own))]})
        assert outcomes(first) == ["posted", "exists"]
        assert outcomes(again.json()) == ["exists", "exists_with_different_content"]
        assert {one["id"] for told in (first, again.json()) for one in told["transfers"]} == {str(own)}
        assert {one["transfer"] for told in (first, again.json()) for one in told["transfers"]} == {
            first["transfers"][0]["transfer"]
        }
        assert balance(api, shop.payer_id) == before - 100


def test_a_refusal_that_lay_in_the_books_stays(api: Api, shop: Shop) -> None:
    own = str(uuid4())
    much = {"transfers": [item(shop, FUNDED + 1, id=own)]}
    assert outcomes(api.post(PATH, much).json()) == ["exceeds_credits"]
    api.post("/v1/payments", {"amount": {"asset": "CNY", "amount_minor": 10}, "payer": shop.payer_id})
    assert outcomes(api.post(PATH, much).json()) == ["id_already_refused"]


def test_an_id_whose_time_lies_ahead_is_refused_and_may_be_sent_again_later(api: Api, shop: Shop) -> None:
    tomorrow = IdSource(lambda: time.time_ns() // 1_000_000 + 86_400_000).new()
    told = api.post(PATH, {"transfers": [item(shop, 5, id=str(tomorrow)), item(shop)]}).json()
    assert outcomes(told) == ["transfer_id_ahead", "posted"]
    assert told["transfers"][0]["field"] == "id"


def test_v5_0_0_8_2_2_ids_of_two_merchants_never_meet(server: Server) -> None:
    one, two = shop_now(server.dsn), shop_now(server.dsn)
    for own in (str(uuid4()), str(IDS.new())):
        for shop in (one, two):
            told = Api(server.url, shop.key).post(PATH, {"transfers": [item(shop, 5, id=own)]}).json()
            assert outcomes(told) == ["posted"]


def test_v5_0_0_8_2_2_nobody_takes_an_id_that_the_wallet_itself_will_use(api: Api, shop: Shop) -> None:
    """The transfer of a payment has an id that follows from the payment's, which its merchant is told."""
    asked = {"amount": {"asset": "CNY", "amount_minor": 900}, "payer": shop.payer_id, "confirm": False}
    made = api.post("/v1/payments", asked).json()["id"]
    paid = chart.transfer_id(parsed(made), chart.PAID)
    assert outcomes(api.post(PATH, {"transfers": [item(shop, 1, id=str(paid))]}).json()) == ["posted"]
    confirmed = api.post(f"/v1/payments/{made}/confirm", {})
    assert (confirmed.status_code, confirmed.json()["state"]) == (200, "succeeded"), confirmed.text
    assert balance(api, shop.payer_id) == FUNDED - 901


def parsed(text: str) -> UUID:
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = 0
    for digit in text.partition("_")[2]:
        number = number * 32 + digits.index(digit)
    return UUID(int=number)


def test_v5_0_0_8_2_2_a_transfer_touches_nothing_of_another_merchant(
    server: Server, api: Api, shop: Shop
) -> None:
    other = shop_now(server.dsn)
    asked = [
        item(shop) | {"source": other.payer_id},
        item(shop) | {"source": mer(other)},
        item(shop) | {"destination": other.payer_id},
        item(shop) | {"destination": mer(other)},
        item(shop),
    ]
    for all_or_none in (False, True, False):
        told = api.post(PATH, {"transfers": asked, "all_or_none": all_or_none}).json()
        last = "linked_transfer_failed" if all_or_none else "posted"
        assert outcomes(told) == [
            "payer_not_found", "merchant_not_found", "payer_not_found", "merchant_not_found", last,
        ]  # fmt: skip
    assert balance(Api(server.url, other.key), other.payer_id) == FUNDED
    assert balance(api, shop.payer_id) == FUNDED - 10


def test_v5_0_0_8_2_1_a_key_that_may_not_move_money_is_refused_before_the_body_is_read(
    server: Server, shop: Shop
) -> None:
    wrong = [
        (key_of(server, shop, Role.READ_ONLY), b"HTTP/1.1 403", b"right_missing"),
        ("sk_test_" + "a" * 43, b"HTTP/1.1 401", b"api_key_invalid"),
    ]
    for key, status, code in wrong:
        answer = sent(server, key, b"content-length: 5000000\r\n")
        assert answer.startswith(status)
        assert code in answer


def test_a_body_beyond_its_bound_is_refused_before_it_is_read(server: Server, shop: Shop) -> None:
    answer = sent(server, shop.key, b"content-length: %d\r\n" % (BATCH_BODY_BYTES_MAX + 1))
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_without_announced_length_is_cut_off_at_its_bound(server: Server, shop: Shop) -> None:
    chunk = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    assert sent(server, shop.key, b"transfer-encoding: chunked\r\n", chunk, 10).startswith(b"HTTP/1.1 413")


def sent(server: Server, key: str, headers: bytes, part: bytes = b"", times: int = 0) -> bytes:
    """Send the head of a request, and parts of its body as long as they are taken; return what comes."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nidempotency-key: k\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"authorization: Bearer " + key.encode() + b"\r\n")
        connection.sendall(headers + b"\r\n")
        for _ in range(times):
            try:
                connection.sendall(part)
            except OSError:
                break
        answer = connection.recv(4096)
        try:
            return answer + connection.recv(4096)
        except OSError:
            return answer


def test_all_or_none_makes_none_when_one_is_refused_and_says_which(api: Api, shop: Shop) -> None:
    asked = [item(shop, 10), item(shop, 20), item(shop, FUNDED), item(shop, 40)]
    told = api.post(PATH, {"transfers": asked, "all_or_none": True}).json()
    failed = "linked_transfer_failed"
    assert outcomes(told) == [failed, failed, "exceeds_credits", failed]
    assert (told["posted"], told["refused"], told["all_or_none"]) == (0, 4, True)
    assert balance(api, shop.payer_id) == FUNDED
    told = api.post(PATH, {"transfers": [asked[0]] * 40, "all_or_none": True}).json()
    assert outcomes(told) == ["posted"] * 40
    assert balance(api, shop.payer_id) == FUNDED - 400


def test_all_or_none_takes_as_many_as_a_batch_may_have(api: Api, shop: Shop) -> None:
    many = [item(shop, 1)] * BATCH_ITEMS_MAX
    short = [*many[:-1], item(shop, FUNDED)]
    told = api.post(PATH, {"transfers": short, "all_or_none": True}).json()
    assert (told["posted"], told["transfers"][-1]["outcome"]) == (0, "exceeds_credits")
    assert balance(api, shop.payer_id) == FUNDED
    assert api.post(PATH, {"transfers": many, "all_or_none": True}).json()["posted"] == BATCH_ITEMS_MAX
    assert balance(api, shop.payer_id) == FUNDED - BATCH_ITEMS_MAX
    whole = api.post(PATH, {"transfers": [item(shop, 1)] * BATCH_ITEMS_MAX}).json()
    assert whole["posted"] == BATCH_ITEMS_MAX
    assert len({one["transfer"] for one in whole["transfers"]}) == BATCH_ITEMS_MAX
    refused = api.post(PATH, {"transfers": [item(shop, 1)] * (BATCH_ITEMS_MAX + 1)})
    assert (refused.status_code, refused.json()["code"]) == (400, "request_invalid")


def test_a_repeat_gets_the_first_answer_byte_for_byte_and_little_is_kept_for_it(
    server: Server, api: Api, shop: Shop
) -> None:
    key = str(uuid4())
    asked = [item(shop, 1, reference=f"line-{n}", id=str(IDS.new())) for n in range(2_000)]
    body = {"transfers": [*asked, item(shop, FUNDED), item(shop, 3), item(shop) | {"source": "nobody"}]}
    first, again = api.post(PATH, body, key=key), api.post(PATH, body, key=key)
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (200, None)
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (200, "true")
    assert again.content == first.content
    assert outcomes(first.json())[-3:] == ["exceeds_credits", "posted", "id_invalid"]
    assert balance(api, shop.payer_id) == FUNDED - 2_003
    with psycopg.connect(server.dsn) as connection:
        [(size,)] = connection.execute(
            "select length(body) from idempotency.answers where key = %s", (key,)
        ).fetchall()
    assert size < 100 < len(first.content)
    other = api.post(PATH, {"transfers": asked}, key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_key_is_needed(api: Api, shop: Shop) -> None:
    refused = api.post(PATH, {"transfers": [item(shop)]}, key=None)
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_missing")


def changed(shop: Shop, old: str, new: str) -> bytes:
    body = json.dumps({"transfers": [item(shop, 4), item(shop, 5)]}).encode()
    assert old.encode() in body
    return new.encode("utf-8", "surrogateescape").join(body.rsplit(old.encode(), 1))


BAD, NOT, DEEP, SECOND = "body_malformed", "request_invalid", "body_too_deep", "transfers[1]"
DIGITS, OPENING, CLOSING = "9" * 4000, "[" * 5_000, "]" * 5_000
WRONG: list[tuple[str, str, str, str, str]] = [
    ("v5.0.0-1.5.3 a key stands twice", '": 5}', '": 5, "amount_minor": 5}', BAD, SECOND),
    ("a doubled key in other letters", '": 5}', '": 5, "\\u0061sset": "CNY"}', BAD, SECOND),
    ("a doubled key with a space behind it", '": 5}', '": 5, "asset" : "CNY"}', BAD, SECOND),
    ("a doubled key in metadata", '": 5}', '": 5}, "metadata": {"a": "b", "a": "b"}', BAD, SECOND),
    ("a doubled list", '{"transfers"', '{"transfers": [], "transfers"', NOT, "transfers"),
    ("v5.0.0-15.3.3 an unknown field", '": 5}', '": 5, "captured_minor": 9}', NOT, SECOND),
    ("v5.0.0-2.2.1 a fraction", '": 5}', '": 5.5}', NOT, f"{SECOND}.amount.amount_minor"),
    ("v5.0.0-2.2.1 a text for a number", '": 5}', '": "5"}', NOT, f"{SECOND}.amount"),
    ("v5.0.0-2.2.1 nothing to move", '": 5}', '": 0}', NOT, f"{SECOND}.amount"),
    ("v5.0.0-2.2.1 thousands of digits", '": 5}', f'": {DIGITS}}}', NOT, SECOND),
    ("an id that is none", '": 5}', '": 5}, "id": "7"', NOT, f"{SECOND}.id"),
    ("a key of metadata with a space", '": 5}', '": 5}, "metadata": {"a b": ""}', NOT, "metadata"),
    ("a reference twice over", '": 5}', '": 5}, "reference": "a", "metadata": {"reference": "b"}', NOT,
     f"{SECOND}.metadata"),
    ("a NUL", '": 5}', '": 5}, "reference": "\\u0000"', BAD, "NUL"),
    ("half a character", '": 5}', '": 5}, "reference": "\\ud800"', BAD, ""),
    ("bytes that are not UTF-8", '": 5}', '": 5}, "reference": "\udcff"', BAD, "UTF-8"),
    ("a body that ends early", '": 5}', '": 5', BAD, ""),
    ("deep nesting", '": 5}', f'": {OPENING}5{CLOSING}}}', DEEP, ""),
    ("deep nesting that never ends", '": 5}', '": 5}, "metadata": ' + '{"a":' * 50_000, DEEP, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "code", "names"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_body_that_is_no_batch_is_refused_whole_and_says_where(
    api: Api, shop: Shop, old: str, new: str, code: str, names: str
) -> None:
    headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
    refused = api.http.post(PATH, content=changed(shop, old, new), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, code), refused.text
    assert names in refused.json()["detail"], refused.text
    assert balance(api, shop.payer_id) == FUNDED


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"transfers": []}', b'{"transfers": null}'])
def test_nothing_to_do_is_refused(api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
    refused = api.http.post(PATH, content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "request_invalid")


def test_v5_0_0_4_1_1_another_content_type_is_refused(api: Api, shop: Shop) -> None:
    headers = {"content-type": "text/plain", "idempotency-key": str(uuid4())}
    refused = api.http.post(PATH, content=json.dumps({"transfers": [item(shop)]}), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (415, "content_type_unsupported")


@pytest.mark.parametrize("reference", ['"quoted"', "back\\slash", "\\", '\\"', "中文", ": ", '","', "💰", ""])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_may_hold_whatever_json_can_carry(
    api: Api, shop: Shop, reference: str, ascii_only: bool
) -> None:
    asked = {"transfers": [item(shop, 5, reference=reference, metadata={"x": reference}), item(shop)]}
    headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
    body = json.dumps(asked, ensure_ascii=ascii_only).encode()
    assert outcomes(api.http.post(PATH, content=body, headers=headers).json()) == ["posted", "posted"]
    kept = api.get(f"/v1/accounts/{shop.payer_id}/CNY/statement").json()["data"][1]["metadata"]
    assert kept == {"x": reference} | ({"reference": reference} if reference else {})


def test_what_is_written_beside_a_transfer_enters_the_ledger_sealed(
    server: Server, api: Api, shop: Shop
) -> None:
    """A payer can be erased then. Sent again, it is still known as the same."""
    secret = uuid4().hex
    asked = {"transfers": [item(shop, 5, reference=secret, metadata={"who": secret}, id=str(uuid4()))]}
    assert outcomes(api.post(PATH, asked).json()) == ["posted"]
    assert outcomes(api.post(PATH, asked).json()) == ["exists"]
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(
            "select metadata::text from ledger.transfers where metadata is not null"
        ).fetchall()
    assert found
    assert secret not in str(found)


def encoded(items: Sequence[dict[str, Any]]) -> bytes:
    return msgspec.json.encode({"transfers": items})


async def ask(api: Context, shop: Shop, key: str, body: bytes) -> dict[str, Any]:
    said: Reply = await create(api, f"Bearer {shop.key}", key, body)
    assert said.status == 200, said.body
    told: dict[str, Any] = json.loads(said.body)
    return told


@pytest.mark.parametrize("done", [0, 1, 3])
async def test_a_batch_that_was_cut_off_is_carried_out_by_its_repeat(dsn: str, done: int) -> None:
    """The key is taken, some transfers are made, no answer is kept: so a server that dies leaves it."""
    app = await opened(dsn)
    try:
        shop = await make_shop(app)
        api = Context(app)
        asked = [item(shop, 700), item(shop, FUNDED), item(shop, 100), item(shop, 30, id=str(uuid4()))]
        body, batch = encoded(asked), app.ids.new()
        held = idempotency.fingerprint(OPERATION, body)
        owner, subject = shop.merchant.id.hex, public("tb", batch)
        claim = idempotency.claim(owner, "k", held, subject, app.clock.now())
        await app.lane.submit(Unit(guards=(claim,)))
        await first_of(app, shop, batch, [700, FUNDED, 100][:done])
        told = await ask(api, shop, "k", body)
        assert outcomes(told) == ["posted", "exceeds_credits", "posted", "posted"]
        assert await ask(api, shop, "k", body) == told
        payer = chart.payer(shop.payer, "CNY").number
        assert (await app.ledger.balances([payer]))[payer].net_minor == FUNDED - 830
    finally:
        await app.close()


async def first_of(app: App, shop: Shop, batch: UUID, amounts: Sequence[int]) -> None:
    """Post what a batch had posted, under the ids that it gives."""
    source, sink = chart.payer(shop.payer, "CNY").number, chart.merchant(shop.merchant.id, "CNY").number
    first = batch.int >> 14 << 14
    await app.ledger.post(
        [
            NewTransfer(TransferId(UUID(int=first + place)), source, sink, "CNY", amount)
            for place, amount in enumerate(amounts)
        ]
    )


async def test_v5_0_0_15_4_2_many_at_once_with_one_key_are_carried_out_once(dsn: str) -> None:
    """Also by several processes, none of which knows of the others."""
    app = await opened(dsn)
    try:
        shop = await make_shop(app)
        body = encoded([item(shop, n + 1) for n in range(50)])

        async def one(api: Context) -> str:
            try:
                return (await create(api, f"Bearer {shop.key}", "k", body)).body.decode()
            except InProgress:
                return ""

        processes = [Context(app) for _ in range(6)]
        answers = await asyncio.gather(*(one(api) for api in processes for _ in range(3)))
        assert len(set(answers) - {""}) == 1
        payer = chart.payer(shop.payer, "CNY").number
        assert (await app.ledger.balances([payer]))[payer].net_minor == FUNDED - 51 * 25
    finally:
        await app.close()


async def test_v5_0_0_16_5_2_so_many_batches_are_at_work_and_no_more(dsn: str) -> None:
    app = await opened(dsn)
    try:
        shops = [await make_shop(app) for _ in range(BATCHES_AT_WORK_MAX // BATCHES_PER_MERCHANT_MAX + 1)]
        api = Context(app)
        held = []
        for shop in shops[:-1]:
            for _ in range(BATCHES_PER_MERCHANT_MAX):
                held.append(place(api, f"Bearer {shop.key}", "k"))
                await held[-1].__aenter__()
        with pytest.raises(MerchantOverloaded):
            await place(api, f"Bearer {shops[0].key}", "k").__aenter__()
        with pytest.raises(Overloaded):
            await place(api, f"Bearer {shops[-1].key}", "k").__aenter__()
        with pytest.raises(KeyInvalid):
            await place(api, "Bearer sk_test_x", "k").__aenter__()
        for one in held:
            await one.__aexit__(None, None, None)
        assert api.batches == {}
        async with place(api, f"Bearer {shops[-1].key}", "k"):
            assert sum(api.batches.values()) == 1
    finally:
        await app.close()


async def test_many_payers_cost_few_queries_and_their_accounts_are_opened(dsn: str) -> None:
    app = await opened(dsn)
    try:
        shop = await make_shop(app)
        now = app.clock.now()
        ids = [app.ids.new() for _ in range(1_200)]
        async with app.database.connection() as connection:
            await connection.execute(
                "insert into instruments.payers (id, merchant, name, reference, created_at) "
                "select id, %s, 'Pei', '', %s from unnest(%s::uuid[]) as id",
                (shop.merchant.id, now, ids),
            )
        queries = 0
        load = app.instruments._wallets._load

        async def counted(payers: Any) -> Any:
            nonlocal queries
            queries += 1
            return await load(payers)

        app.instruments._wallets._load = counted
        api = Context(app)
        asked = encoded([item(shop, 1) | {"destination": public("pyr", id_)} for id_ in ids])
        for key in ("a", "b"):
            told = await ask(api, shop, key, asked)
            assert told["posted"] == len(ids)
        assert queries <= 6
    finally:
        await app.close()


async def test_a_payer_of_the_merchants_other_half_is_a_stranger(dsn: str) -> None:
    app = await opened(dsn)
    try:
        test = await make_shop(app)
        now = app.clock.now()
        live = await app.merchants.enrol(app.ids.new(), test.merchant.business, "Shop", now, live=True)
        key = (await app.merchants.issue_key(live, Role.FULL, now)).reveal()
        other = Shop(live, key, await make_payer(app, live.id, 1_000))
        api = Context(app)
        assert outcomes(await ask(api, test, "a", encoded([item(test)]))) == ["posted"]
        crossed = [item(other) | {"source": test.payer_id}, item(other) | {"destination": test.payer_id}]
        assert outcomes(await ask(api, other, "a", encoded(crossed))) == ["payer_not_found"] * 2
    finally:
        await app.close()
