"""Payments over HTTP, from balance: what is promised to merchants."""

from __future__ import annotations

from holdfast.domains.merchants import MerchantRules
from tests.api.world import Api, Server, Shop, shop_now


def asked(shop: Shop, amount_minor: object = 1_000, **more: object) -> dict[str, object]:
    return {"amount": {"asset": "CNY", "amount_minor": amount_minor}, "payer": shop.payer_id, **more}


def balance(api: Api, owner: str) -> int:
    shown: int = api.get(f"/v1/accounts/{owner}/CNY").json()["available_minor"]
    return shown


def test_a_payment_from_balance_succeeds_at_once_and_moves_exactly_its_amount(api: Api, shop: Shop) -> None:
    made = api.post("/v1/payments", asked(shop, 1234, reference="order-7", metadata={"table": "4"}))
    assert made.status_code == 201, made.text
    shown = made.json()
    assert shown["state"] == "succeeded"
    assert shown["amount"] == {"asset": "CNY", "amount_minor": 1234, "decimal": "12.34"}
    assert shown["captured_minor"] == 1234
    assert shown["reference"] == "order-7"
    assert shown["metadata"] == {"table": "4"}
    assert balance(api, shop.payer_id) == 1_000_000 - 1234


def test_a_payment_is_shown_listed_and_told_as_a_story(api: Api, shop: Shop) -> None:
    made = api.post("/v1/payments", asked(shop)).json()
    assert api.get(f"/v1/payments/{made['id']}").json() == made
    assert api.get("/v1/payments").json()["data"][0] == made
    story = api.get(f"/v1/payments/{made['id']}/story").json()
    assert story["payment"] == made
    assert [a["state"] for a in story["attempts"]] == ["captured"]
    assert story["explanation"][-1].startswith("It succeeded")
    assert story["journal"]
    assert "token" not in str(story["attempts"])


def test_a_balance_that_does_not_cover_it_fails_and_nothing_is_kept(api: Api, shop: Shop) -> None:
    made = api.post("/v1/payments", asked(shop, 1_000_001))
    assert made.status_code == 402
    assert made.headers["content-type"] == "application/problem+json"
    told = made.json()
    assert told["code"] == "payment_failed"
    assert told["payment"]["state"] == "failed"
    assert told["payment"]["captured_minor"] == 0
    assert balance(api, shop.payer_id) == 1_000_000


def test_a_payment_can_be_held_captured_in_part_and_the_rest_is_released(api: Api, shop: Shop) -> None:
    held = api.post("/v1/payments", asked(shop, 5_000, capture="manual"))
    assert held.status_code == 201, held.text
    assert held.json()["state"] == "authorized"
    assert balance(api, shop.payer_id) == 1_000_000 - 5_000
    taken = api.post(f"/v1/payments/{held.json()['id']}/capture", {"amount_minor": 3_000})
    assert taken.status_code == 200, taken.text
    assert taken.json()["state"] == "succeeded"
    assert taken.json()["captured_minor"] == 3_000
    assert balance(api, shop.payer_id) == 1_000_000 - 3_000


def test_more_than_is_held_cannot_be_captured(api: Api, shop: Shop) -> None:
    held = api.post("/v1/payments", asked(shop, 5_000, capture="manual")).json()
    refused = api.post(f"/v1/payments/{held['id']}/capture", {"amount_minor": 5_001})
    assert (refused.status_code, refused.json()["code"]) == (422, "capture_too_much")


def test_a_held_payment_can_be_canceled_and_what_was_held_is_released(api: Api, shop: Shop) -> None:
    held = api.post("/v1/payments", asked(shop, 5_000, capture="manual")).json()
    gone = api.post(f"/v1/payments/{held['id']}/cancel")
    assert gone.status_code == 200, gone.text
    assert gone.json()["state"] == "canceled"
    assert balance(api, shop.payer_id) == 1_000_000


def test_a_payment_that_is_over_cannot_be_canceled(api: Api, shop: Shop) -> None:
    made = api.post("/v1/payments", asked(shop)).json()
    refused = api.post(f"/v1/payments/{made['id']}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_state_wrong")


def test_a_payment_made_without_confirmation_moves_nothing_until_it_is_confirmed(
    api: Api, shop: Shop
) -> None:
    made = api.post("/v1/payments", asked(shop, 700, confirm=False))
    assert made.status_code == 201, made.text
    assert made.json()["state"] == "requires_confirmation"
    assert balance(api, shop.payer_id) == 1_000_000
    done = api.post(f"/v1/payments/{made.json()['id']}/confirm")
    assert done.status_code == 200, done.text
    assert done.json()["state"] == "succeeded"
    assert balance(api, shop.payer_id) == 1_000_000 - 700
    again = api.post(f"/v1/payments/{made.json()['id']}/confirm")
    assert (again.status_code, again.json()["code"]) == (409, "payment_state_wrong")


def test_lists_page_by_cursor_without_skipping_or_repeating(api: Api, shop: Shop) -> None:
    made = [api.post("/v1/payments", asked(shop, 10 + n)).json()["id"] for n in range(7)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = api.get("/v1/payments", limit=3, **after).json()
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = {"starting_after": seen[-1]}
    assert seen == made[::-1]


def test_lists_can_be_narrowed_to_a_state(api: Api, shop: Shop) -> None:
    api.post("/v1/payments", asked(shop))
    held = api.post("/v1/payments", asked(shop, capture="manual")).json()
    listed = api.get("/v1/payments", state="authorized").json()["data"]
    assert [one["id"] for one in listed] == [held["id"]]


def test_what_a_payment_did_is_in_the_list_of_events(api: Api, shop: Shop) -> None:
    made = api.post("/v1/payments", asked(shop)).json()
    events = api.get("/v1/events").json()["data"]
    mine = [event for event in events if event["subject"] == made["id"]]
    assert [event["type"] for event in mine].count("payment.succeeded") == 1
    assert api.get(f"/v1/events/{mine[0]['id']}").json() == mine[0]
    assert api.get("/v1/events", type="payment.failed").json()["data"] == []


def test_a_statement_tells_each_movement_with_the_balance_after_it(api: Api, shop: Shop) -> None:
    for amount in (100, 200, 300):
        api.post("/v1/payments", asked(shop, amount))
    first = api.get(f"/v1/accounts/{shop.payer_id}/CNY/statement", limit=2).json()
    assert [(one["side"], one["amount_minor"], one["available_minor"]) for one in first["data"]] == [
        ("debit", 300, 999_400),
        ("debit", 200, 999_700),
    ]
    assert first["has_more"]
    rest = api.get(
        f"/v1/accounts/{shop.payer_id}/CNY/statement", starting_after=first["data"][-1]["id"], limit=99
    ).json()
    assert [(one["side"], one["amount_minor"]) for one in rest["data"]] == [
        ("debit", 100),
        ("credit", 1_000_000),
    ]
    assert not rest["has_more"]


def test_a_merchant_rule_keeps_out_kinds_of_method(server: Server) -> None:
    strict = shop_now(server.dsn, rules=MerchantRules(allowed_kinds=("card",)))
    refused = Api(server.url, strict.key).post("/v1/payments", asked(strict))
    assert (refused.status_code, refused.json()["code"]) == (422, "no_way_to_pay")


def test_a_merchant_rule_sets_how_payments_are_captured(server: Server) -> None:
    hotel = shop_now(server.dsn, rules=MerchantRules(capture="manual"))
    held = Api(server.url, hotel.key).post("/v1/payments", asked(hotel))
    assert held.json()["state"] == "authorized"
