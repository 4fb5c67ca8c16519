"""Everything beside payments: refunds, transfers, top-ups, payers, webhook endpoints, rails, health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from holdfast.base.ids import public
from holdfast.platform.postgres import EmbeddedPostgres
from tests.api.test_payments import asked, balance
from tests.api.world import Api, Server, Shop, running_server, shop_now
from tests.support.sandbox import running_sandbox


def transfer(source: str, destination: str, amount_minor: int) -> dict[str, object]:
    return {
        "source": source,
        "destination": destination,
        "amount": {"asset": "CNY", "amount_minor": amount_minor},
        "reference": "rent",
    }


def test_a_refund_gives_back_part_and_then_the_rest_and_never_more(api: Api, shop: Shop) -> None:
    made = api.post("/v1/payments", asked(shop, 1_000)).json()
    part = api.post("/v1/refunds", {"payment": made["id"], "amount_minor": 300, "reason": "one cup broke"})
    assert part.status_code == 201, part.text
    assert part.json()["state"] == "succeeded"
    assert part.json()["reason"] == "one cup broke"
    assert api.get(f"/v1/refunds/{part.json()['id']}").json() == part.json()
    rest = api.post("/v1/refunds", {"payment": made["id"]})
    assert rest.json()["amount"]["amount_minor"] == 700
    over = api.post("/v1/refunds", {"payment": made["id"], "amount_minor": 1})
    assert (over.status_code, over.json()["code"]) == (422, "refund_too_much")
    assert balance(api, shop.payer_id) == 1_000_000
    story = api.get(f"/v1/payments/{made['id']}/story").json()
    assert [r["amount"]["amount_minor"] for r in story["refunds"]] == [300, 700]


def test_a_refund_that_the_merchant_cannot_fund_is_refused_and_the_refusal_is_repeated(
    api: Api, shop: Shop
) -> None:
    made = api.post("/v1/payments", asked(shop, 1_000)).json()
    merchant = public("mer", shop.merchant.id)
    assert api.post("/v1/transfers", transfer(merchant, shop.payer_id, 1_000)).status_code == 201
    key = str(uuid4())
    for attempt in range(2):
        refused = api.post("/v1/refunds", {"payment": made["id"]}, key=key)
        assert (refused.status_code, refused.json()["code"]) == (402, "refund_not_funded")
        assert (refused.headers.get("idempotent-replayed") == "true") == bool(attempt)


def test_a_transfer_moves_money_at_once(api: Api, shop: Shop) -> None:
    other = api.post("/v1/payers", {"name": "Mei"}).json()["id"]
    made = api.post("/v1/transfers", transfer(shop.payer_id, other, 2_500))
    assert made.status_code == 201, made.text
    assert made.json()["amount"]["decimal"] == "25.00"
    assert balance(api, other) == 2_500
    assert balance(api, shop.payer_id) == 1_000_000 - 2_500
    line = api.get(f"/v1/accounts/{other}/CNY/statement").json()["data"][0]
    assert (line["id"], line["side"], line["metadata"]) == (
        made.json()["id"],
        "credit",
        {"reference": "rent"},
    )


def test_a_transfer_of_more_than_there_is_is_refused_and_the_refusal_is_repeated(
    api: Api, shop: Shop
) -> None:
    other = api.post("/v1/payers", {"name": "Mei"}).json()["id"]
    key = str(uuid4())
    for attempt in range(2):
        refused = api.post("/v1/transfers", transfer(shop.payer_id, other, 1_000_001), key=key)
        assert (refused.status_code, refused.json()["code"]) == (422, "transfer_refused"), refused.text
        assert (refused.headers.get("idempotent-replayed") == "true") == bool(attempt)
    assert balance(api, shop.payer_id) == 1_000_000


def test_a_transfer_to_oneself_is_refused(api: Api, shop: Shop) -> None:
    refused = api.post("/v1/transfers", transfer(shop.payer_id, shop.payer_id, 5))
    assert (refused.status_code, refused.json()["code"]) == (422, "payment_invalid")


def test_a_balance_can_be_told_as_of_an_earlier_moment(api: Api, shop: Shop) -> None:
    before = api.post("/v1/payments", asked(shop, 100)).json()["created_at"]
    time.sleep(0.01)
    api.post("/v1/payments", asked(shop, 200))
    told = api.get(f"/v1/accounts/{shop.payer_id}/CNY", at=before).json()["available_minor"]
    assert told in (1_000_000 - 100, 1_000_000)
    assert balance(api, shop.payer_id) == 1_000_000 - 300
    naive = api.get(f"/v1/accounts/{shop.payer_id}/CNY", at="2026-01-01T00:00:00")
    assert (naive.status_code, naive.json()["code"]) == (400, "request_invalid")


def test_balances_are_listed_by_asset(api: Api, shop: Shop) -> None:
    listed = api.get(f"/v1/accounts/{shop.payer_id}").json()["data"]
    assert [(one["asset"], one["available_minor"]) for one in listed] == [("CNY", 1_000_000)]
    codes = [one["code"] for one in api.get("/v1/assets").json()["data"]]
    assert {"CNY", "JPY", "USDC"} <= set(codes)


def test_a_payer_is_enrolled_with_a_balance_and_adds_instruments_in_their_own_order(api: Api) -> None:
    payer = api.post("/v1/payers", {"name": "Mei", "reference": "customer-9"})
    assert payer.status_code == 201, payer.text
    id_ = payer.json()["id"]
    assert [i["kind"] for i in payer.json()["instruments"]] == ["balance"]
    card = api.post(
        f"/v1/payers/{id_}/instruments", {"kind": "card", "label": "Visa", "token": "pm_card_visa"}
    )
    assert card.status_code == 201, card.text
    assert "token" not in card.json()
    held = api.get(f"/v1/payers/{id_}").json()["instruments"]
    assert [i["kind"] for i in held] == ["balance", "card"]
    order = [held[1]["id"], held[0]["id"]]
    put = api.http.put(f"/v1/payers/{id_}/instruments/order", json={"instruments": order})
    assert [i["id"] for i in put.json()["instruments"]] == order
    wrong = api.http.put(f"/v1/payers/{id_}/instruments/order", json={"instruments": order[:1]})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "instrument_invalid")
    assert api.http.delete(f"/v1/payers/{id_}/instruments/{order[0]}").status_code == 204
    gone = api.http.delete(f"/v1/payers/{id_}/instruments/{order[0]}")
    assert (gone.status_code, gone.json()["code"]) == (404, "instrument_not_found")
    assert [i["id"] for i in api.get(f"/v1/payers/{id_}").json()["instruments"]] == order[1:]
    assert id_ in [one["id"] for one in api.get("/v1/payers").json()["data"]]


def test_a_card_number_is_refused_as_an_instrument(api: Api, shop: Shop) -> None:
    refused = api.post(
        f"/v1/payers/{shop.payer_id}/instruments",
        {"kind": "card", "label": "Visa", "token": "4242424242424242"},
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "card_number_refused")
    assert "4242" not in refused.text


def test_a_payer_keeps_a_bounded_number_of_instruments(api: Api, shop: Shop) -> None:
    card = {"kind": "card", "label": "Visa", "token": "pm_card_visa"}
    answers = [api.post(f"/v1/payers/{shop.payer_id}/instruments", card) for _ in range(20)]
    assert [a.status_code for a in answers] == [201] * 19 + [409]
    assert answers[-1].json()["code"] == "too_many_instruments"


def test_a_webhook_endpoint_lives_its_life(api: Api) -> None:
    made = api.post(
        "/v1/webhook_endpoints", {"url": "https://example.com/hook", "types": ["payment.succeeded"]}
    )
    assert made.status_code == 201, made.text
    endpoint = made.json()
    assert endpoint["secret"].startswith("whsec_")
    shown = api.get(f"/v1/webhook_endpoints/{endpoint['id']}").json()
    assert shown["secret"] is None
    assert shown["types"] == ["payment.succeeded"]
    changed = api.http.patch(f"/v1/webhook_endpoints/{endpoint['id']}", json={"enabled": False})
    assert changed.json()["enabled"] is False
    rotated = api.post(f"/v1/webhook_endpoints/{endpoint['id']}/rotate_secret")
    assert rotated.json()["secret"] not in (endpoint["secret"], "")
    assert api.get(f"/v1/webhook_endpoints/{endpoint['id']}/deliveries").json() == {
        "data": [],
        "has_more": False,
    }
    assert [one["id"] for one in api.get("/v1/webhook_endpoints").json()["data"]] == [endpoint["id"]]
    assert api.http.delete(f"/v1/webhook_endpoints/{endpoint['id']}").status_code == 204
    assert api.get(f"/v1/webhook_endpoints/{endpoint['id']}").status_code == 404


def test_a_repeat_of_making_a_webhook_endpoint_does_not_show_the_secret_again(api: Api) -> None:
    key = str(uuid4())
    first = api.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}, key=key).json()
    again = api.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}, key=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first | {"secret": None}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "ftp://example.com/"}, "webhook_url_invalid"),
        ({"url": "https://user:pass@example.com/"}, "webhook_url_invalid"),
        ({"url": "https://example.com/", "types": ["payment.exploded"]}, "webhook_event_types_invalid"),
    ],
)
def test_a_webhook_endpoint_that_cannot_be_called_is_refused(api: Api, body: object, code: str) -> None:
    refused = api.post("/v1/webhook_endpoints", body)
    assert (refused.status_code, refused.json()["code"]) == (400, code)


def test_event_types_are_listed(api: Api) -> None:
    assert "payment.succeeded" in api.get("/v1/event_types").json()["data"]


def test_an_unsigned_message_of_a_rail_is_refused(api: Api) -> None:
    refused = api.http.post("/v1/rails/north/webhook", content=b'{"id": "evt_1"}')
    assert (refused.status_code, refused.json()["code"]) == (400, "rail_event_invalid")


def test_health_tells_alive_from_ready_and_counts(api: Api, shop: Shop) -> None:
    api.post("/v1/payments", asked(shop))
    assert api.get("/healthz").json()["status"] == "ok"
    assert api.get("/readyz").json() == {"status": "ready", "checks": {"database": "ok"}}
    counted = api.get("/metrics")
    assert counted.headers["content-type"].startswith("text/plain")
    assert (
        'holdfast_http_request_seconds_count{method="POST",route="/v1/payments",status="201"}' in counted.text
    )


def test_a_server_without_its_database_is_alive_but_not_ready_and_says_that_nothing_moved(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path
) -> None:
    name = f"gone_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
    shop = shop_now(postgres.dsn(name))
    with running_server(postgres.dsn(name), tmp_path) as server:
        api = Api(server.url, shop.key)
        assert api.post("/v1/payments", asked(shop)).status_code == 201
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")
        assert api.get("/healthz").status_code == 200
        assert api.get("/readyz").status_code == 503
        refused = api.post("/v1/payments", asked(shop))
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) >= 1


@pytest.fixture(scope="module")
def with_rails(module_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose rails are a sandbox."""
    folder = tmp_path_factory.mktemp("rails")
    (folder / "sandbox").mkdir()
    with (
        running_sandbox(folder / "sandbox") as sandbox,
        running_server(module_dsn, folder, sandbox_url=sandbox.url) as server,
    ):
        yield server


def test_a_guest_pays_by_card_on_a_rail(with_rails: Server) -> None:
    shop = shop_now(with_rails.dsn)
    api = Api(with_rails.url, shop.key)
    body = {
        "amount": {"asset": "CNY", "amount_minor": 4_200},
        "guest": {"token": "pm_card_visa", "label": "Visa"},
    }
    made = api.post("/v1/payments", body)
    assert made.status_code == 201, made.text
    assert made.json()["state"] == "succeeded"
    story = api.get(f"/v1/payments/{made.json()['id']}/story").json()
    assert story["attempts"][-1]["rail"] in ("north", "south")
    assert balance(api, public("mer", shop.merchant.id)) == 4_200
    back = api.post("/v1/refunds", {"payment": made.json()["id"], "amount_minor": 200})
    assert back.status_code in (201, 202), back.text
    assert balance(api, public("mer", shop.merchant.id)) == 4_000


def test_test_and_live_are_apart_in_money_too(with_rails: Server) -> None:
    live = shop_now(with_rails.dsn, live=True)
    api = Api(with_rails.url, live.key)
    body = {"amount": {"asset": "CNY", "amount_minor": 4_200}, "guest": {"token": "pm_card_visa"}}
    refused = api.post("/v1/payments", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "no_way_to_pay"), refused.text
    kept = api.post("/v1/payments", {"amount": body["amount"], "payer": live.payer_id})
    assert (kept.status_code, kept.json()["live"]) == (201, True), "what needs no rail is paid"


def test_a_payment_that_is_to_be_captured_later_goes_to_no_rail_that_charges_at_once(
    with_rails: Server,
) -> None:
    shop = shop_now(with_rails.dsn)
    api = Api(with_rails.url, shop.key)
    bank = {"token": "HB-0001-OK", "kind": "bank"}
    body = {"amount": {"asset": "CNY", "amount_minor": 900}, "guest": bank, "capture": "manual"}
    refused = api.post("/v1/payments", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "no_way_to_pay"), refused.text


def test_a_card_that_is_declined_fails_with_its_reason_and_keeps_nothing(with_rails: Server) -> None:
    shop = shop_now(with_rails.dsn)
    api = Api(with_rails.url, shop.key)
    body = {
        "amount": {"asset": "CNY", "amount_minor": 4_200},
        "guest": {"token": "pm_card_chargeDeclinedInsufficientFunds"},
    }
    refused = api.post("/v1/payments", body)
    assert (refused.status_code, refused.json()["code"]) == (402, "payment_failed"), refused.text
    assert refused.json()["decline_code"]


def test_a_balance_is_topped_up_from_a_card(with_rails: Server) -> None:
    shop = shop_now(with_rails.dsn, funded=0)
    api = Api(with_rails.url, shop.key)
    none = api.post("/v1/top_ups", {"payer": shop.payer_id, "amount": {"asset": "CNY", "amount_minor": 900}})
    assert (none.status_code, none.json()["code"]) == (422, "no_way_to_pay")
    card = {"kind": "card", "label": "Visa", "token": "pm_card_visa"}
    assert api.post(f"/v1/payers/{shop.payer_id}/instruments", card).status_code == 201
    made = api.post("/v1/top_ups", {"payer": shop.payer_id, "amount": {"asset": "CNY", "amount_minor": 900}})
    assert made.status_code == 201, made.text
    assert (made.json()["state"], made.json()["purpose"]) == ("succeeded", "top_up")
    assert balance(api, shop.payer_id) == 900
