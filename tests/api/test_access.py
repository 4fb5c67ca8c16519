"""Who may do what: keys, roles, modes, and other people's objects."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from holdfast.base.ids import public
from holdfast.base.limits import API_KEY_KEEP_S
from holdfast.domains.instruments import CardNumberRefused, Kind
from holdfast.domains.merchants import Role
from holdfast.domains.merchants.rules import digest
from tests.api.test_payments import asked
from tests.api.world import Api, Server, Shop, make_shop, opened, shop_now


def test_v5_0_0_8_3_1_without_a_key_nothing_is_told(server: Server) -> None:
    for headers in ({}, {"authorization": "Basic abc"}, {"authorization": "Bearer"}):
        refused = Api(server.url, None).http.get("/v1/payments", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "api_key_missing")
        assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["sk_test_" + "a" * 43, "x", "sk_test_", "sk_live_" + "é" * 43])
def test_a_key_that_is_not_in_force_opens_nothing(server: Server, shop: Shop, key: str) -> None:
    headers = {b"authorization": b"Bearer " + key.encode()}
    client = Api(server.url, None)
    for method, path in (("GET", "/v1/payments"), ("POST", "/v1/payments")):
        refused = client.http.request(
            method, path, headers=headers, json=asked(shop) if method == "POST" else None
        )
        assert (refused.status_code, refused.json()["code"]) == (401, "api_key_invalid")


def key_of(server: Server, shop: Shop, role: Role) -> str:
    async def issue() -> str:
        app = await opened(server.dsn)
        try:
            return (await app.merchants.issue_key(shop.merchant, role, app.clock.now())).reveal()
        finally:
            await app.close()

    return asyncio.run(issue())


def test_v5_0_0_8_2_1_a_read_only_key_reads_and_moves_nothing(server: Server, shop: Shop) -> None:
    client = Api(server.url, key_of(server, shop, Role.READ_ONLY))
    assert client.get("/v1/payments").status_code == 200
    for path, body in (
        ("/v1/payments", asked(shop)),
        ("/v1/payers", {"name": "Pei"}),
        ("/v1/webhook_endpoints", {"url": "https://example.com/"}),
    ):
        refused = client.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "right_missing"), path


def test_a_publishable_key_only_asks_how_rails_are_doing(server: Server, shop: Shop) -> None:
    client = Api(server.url, key_of(server, shop, Role.PUBLISHABLE))
    rails = client.get("/v1/rails")
    assert rails.status_code == 200
    assert "book" in [rail["rail"] for rail in rails.json()["data"]]
    assert client.get("/v1/payments").json()["code"] == "right_missing"
    assert client.post("/v1/payments", asked(shop)).json()["code"] == "right_missing"


def test_v5_0_0_7_4_1_a_revoked_key_opens_nothing_within_the_stated_bound(server: Server, shop: Shop) -> None:
    client = Api(server.url, shop.key)
    assert client.get("/v1/payments").status_code == 200

    async def revoke() -> None:
        app = await opened(server.dsn)
        try:
            assert await app.merchants.revoke_key(shop.merchant.id, digest(shop.key), app.clock.now())
        finally:
            await app.close()

    asyncio.run(revoke())
    revoked = time.monotonic()
    while client.get("/v1/payments").status_code != 401:
        assert time.monotonic() - revoked < API_KEY_KEEP_S + 1.0
        time.sleep(0.1)


def test_v5_0_0_8_2_2_other_merchants_objects_are_as_absent(server: Server, api: Api, shop: Shop) -> None:
    mine = api.post("/v1/payments", asked(shop, capture="manual")).json()
    event = api.get("/v1/events").json()["data"][0]
    endpoint = api.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}).json()
    other = shop_now(server.dsn)
    stranger = Api(server.url, other.key)
    for path in (
        f"/v1/payments/{mine['id']}",
        f"/v1/payments/{mine['id']}/story",
        f"/v1/events/{event['id']}",
        f"/v1/webhook_endpoints/{endpoint['id']}",
        f"/v1/webhook_endpoints/{endpoint['id']}/deliveries",
        f"/v1/payers/{shop.payer_id}",
        f"/v1/accounts/{shop.payer_id}",
        f"/v1/accounts/{shop.payer_id}/CNY",
        f"/v1/accounts/{shop.payer_id}/CNY/statement",
        f"/v1/accounts/{public('mer', shop.merchant.id)}/CNY",
    ):
        assert stranger.get(path).status_code == 404, path
    for path, body in (
        ("/v1/payments", asked(shop)),
        (f"/v1/payments/{mine['id']}/capture", None),
        (f"/v1/payments/{mine['id']}/cancel", None),
        (f"/v1/payments/{mine['id']}/confirm", None),
        ("/v1/refunds", {"payment": mine["id"]}),
        ("/v1/top_ups", {"payer": shop.payer_id, "amount": {"asset": "CNY", "amount_minor": 5}}),
        (
            "/v1/transfers",
            {
                "source": shop.payer_id,
                "destination": public("mer", other.merchant.id),
                "amount": {"asset": "CNY", "amount_minor": 5},
            },
        ),
        (
            f"/v1/payers/{shop.payer_id}/instruments",
            {"kind": "card", "label": "Mine", "token": "pm_card_visa"},
        ),
    ):
        assert stranger.post(path, body).status_code == 404, path
    assert stranger.get("/v1/payments").json() == {"data": [], "has_more": False}
    assert stranger.get("/v1/events").json()["data"] == []
    assert api.get(f"/v1/payments/{mine['id']}").json()["state"] == "authorized"
    assert api.get(f"/v1/accounts/{shop.payer_id}/CNY").json()["available_minor"] == 1_000_000 - 1_000


def test_test_and_live_of_one_business_never_see_each_other(server: Server) -> None:
    async def both() -> tuple[Shop, Shop]:
        app = await opened(server.dsn)
        try:
            test = await make_shop(app)
            live = await app.merchants.enrol(
                app.ids.new(), test.merchant.business, "Shop", app.clock.now(), live=True
            )
            key = await app.merchants.issue_key(live, Role.FULL, app.clock.now())
            return test, Shop(live, key.reveal(), test.payer)
        finally:
            await app.close()

    test, live = asyncio.run(both())
    assert (test.key[:8], live.key[:8]) == ("sk_test_", "sk_live_")
    made = Api(server.url, test.key).post("/v1/payments", asked(test)).json()
    assert made["live"] is False
    other = Api(server.url, live.key)
    assert other.get(f"/v1/payments/{made['id']}").status_code == 404
    assert other.get("/v1/payments").json()["data"] == []
    assert other.post("/v1/payments", asked(test)).json()["code"] == "payer_not_found"


def test_an_instrument_of_another_payer_cannot_be_used(server: Server, api: Api, shop: Shop) -> None:
    other = api.post("/v1/payers", {"name": "Mei"}).json()
    refused = api.post("/v1/payments", asked(shop, methods=[other["instruments"][0]["id"]]))
    assert (refused.status_code, refused.json()["code"]) == (404, "instrument_not_found")


async def test_a_key_is_kept_as_its_digest_only(dsn: str) -> None:
    app = await opened(dsn)
    try:
        shop = await make_shop(app)
        async with app.database.connection() as connection:
            rows = await (await connection.execute("select k::text from merchants.keys k")).fetchall()
        assert rows
        assert shop.key[8:] not in str(rows)
        facts = await app.merchants.keys(shop.merchant.id)
        assert [one.revoked_at for one in facts] == [None]
    finally:
        await app.close()


async def test_no_card_number_gets_into_the_database(dsn: str) -> None:
    app = await opened(dsn)
    try:
        shop = await make_shop(app)
        for label, token in (
            ("Visa", "4242424242424242"),
            ("Visa", "4242 4242 4242 4242"),
            ("4242-4242-4242-4242", "pm_card"),
            ("Visa", "pan:4111111111111111"),
        ):
            with pytest.raises(CardNumberRefused):
                await app.instruments.add(
                    app.ids.new(), shop.payer, Kind.CARD, label, app.clock.now(), token=token
                )
        async with app.database.connection() as connection:
            with pytest.raises(psycopg.errors.CheckViolation):
                await connection.execute(
                    "insert into instruments.instruments values (gen_random_uuid(), %s, 'card', 'Visa', "
                    "'4242424242424242', 9, now())",
                    (shop.payer,),
                )
    finally:
        await app.close()
