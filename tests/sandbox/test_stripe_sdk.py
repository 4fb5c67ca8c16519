"""Stripe's official Python library, unmodified but for the address, works against the sandbox."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import stripe

from tests.sandbox.conftest import Receiver
from tests.support.sandbox import Sandbox
from tests.support.waiting import until


@pytest.fixture
def client(sandbox: Sandbox) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_north", base_addresses={"api": sandbox.at("north")})


@pytest.fixture
def globally(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library as most code uses it: module-wide settings."""
    monkeypatch.setattr(stripe, "api_key", "sk_test_north")
    monkeypatch.setattr(stripe, "api_base", sandbox.at("north"))
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    return stripe


def held(client: stripe.StripeClient, **more: Any) -> Any:
    params = {
        "amount": 1_000,
        "currency": "usd",
        "payment_method": "pm_card_visa",
        "confirm": True,
        "capture_method": "manual",
    }
    return client.v1.payment_intents.create({**params, **more})


def test_a_payment_is_held_captured_in_part_and_given_back(
    client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    intent = held(client, metadata={"order_id": "o-1"})
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 1_000)
    captured = client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 700})
    assert (captured.status, captured.amount_received) == ("succeeded", 700)
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 200, "reason": "duplicate"})
    assert (refund.status, refund.amount, refund.charge) == ("succeeded", 200, captured.latest_charge)
    assert sandbox.kept_minor("north", "o-1") == 500


def test_module_wide_settings_work_too(globally: Any) -> None:
    intent = globally.PaymentIntent.create(amount=1_000, currency="usd")
    assert intent.status == "requires_payment_method"
    intent = intent.confirm(payment_method="pm_card_mastercard")
    assert intent.status == "succeeded"
    assert globally.PaymentIntent.retrieve(intent.id).amount_received == 1_000


async def test_the_asynchronous_methods_work_too(sandbox: Sandbox) -> None:
    http = stripe.HTTPXClient()
    client = stripe.StripeClient(
        "sk_test_north", base_addresses={"api": sandbox.at("north")}, http_client=http
    )
    intent = await client.v1.payment_intents.create_async({"amount": 1_000, "currency": "eur"})
    confirmed = await client.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert confirmed.status == "succeeded"
    await http.close_async()


def test_a_cancelled_payment_cannot_be_captured(client: stripe.StripeClient) -> None:
    intent = held(client)
    cancelled = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (cancelled.status, cancelled.cancellation_reason) == ("canceled", "abandoned")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payment_intents.capture(intent.id)
    assert caught.value.code == "payment_intent_unexpected_state"
    assert caught.value.error is not None
    assert caught.value.error.payment_intent.status == "canceled"


@pytest.mark.parametrize(
    ("number", "code", "decline_code"),
    [
        ("4000000000000002", "card_declined", "generic_decline"),
        ("4000000000009995", "card_declined", "insufficient_funds"),
        ("4000000000009987", "card_declined", "lost_card"),
        ("4000000000009979", "card_declined", "stolen_card"),
        ("4000000000000069", "expired_card", "expired_card"),
        ("4000000000000127", "incorrect_cvc", "incorrect_cvc"),
    ],
)
def test_the_usual_test_cards_decline_as_usual(
    client: stripe.StripeClient, number: str, code: str, decline_code: str
) -> None:
    method = client.v1.payment_methods.create(
        {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}}
    )
    assert method.card is not None
    assert method.card.last4 == number[-4:]
    with pytest.raises(stripe.CardError) as caught:
        held(client, payment_method=method.id)
    error = caught.value.error
    assert error is not None
    assert (caught.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    assert error.payment_intent.status == "requires_payment_method"
    assert error.payment_intent.last_payment_error.decline_code == decline_code


def test_a_good_card_number_pays_and_is_kept_nowhere(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    card = {"number": "4242 4242 4242 4242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    method = client.v1.payment_methods.create({"type": "card", "card": card})
    assert held(client, payment_method=method.id).status == "requires_capture"
    files = b"".join(path.read_bytes() for path in sandbox.folder.iterdir())
    assert method.id.encode() in files
    assert b"4242424242424242" not in files
    assert b"4242 4242 4242 4242" not in files


def test_a_card_that_needs_authentication_asks_for_it_or_declines(client: stripe.StripeClient) -> None:
    intent = held(client, payment_method="pm_card_authenticationRequired")
    assert (intent.status, intent.next_action.type) == ("requires_action", "use_stripe_sdk")
    with pytest.raises(stripe.CardError) as caught:
        held(client, payment_method="pm_card_authenticationRequired", error_on_requires_action=True)
    assert caught.value.code == "authentication_required"


def test_the_same_key_gives_the_same_answer_and_moves_money_once(
    client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    options: Any = {"idempotency_key": "k-1"}
    params: Any = {"amount": 1_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    first = client.v1.payment_intents.create(params, options)
    second = client.v1.payment_intents.create(params, options)
    assert first.id == second.id
    assert second.last_response.headers["idempotent-replayed"] == "true"
    assert sandbox.kept_minor("north") == 1_000
    with pytest.raises(stripe.IdempotencyError):
        client.v1.payment_intents.create({**params, "amount": 2_000}, options)


def test_a_saved_server_error_is_repeated_for_its_key_though_the_payment_was_made(
    client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    sandbox.fault("north", "error_after", operations=["confirm"])
    params: Any = {"amount": 1_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            client.v1.payment_intents.create(params, {"idempotency_key": "k-1"})
        sandbox.mend()
    assert sandbox.kept_minor("north") == 1_000


def test_a_request_that_failed_validation_leaves_its_key_unused(client: stripe.StripeClient) -> None:
    bad: Any = {"amount": 0, "currency": "usd"}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payment_intents.create(bad, {"idempotency_key": "k-1"})
    assert (caught.value.param, caught.value.code) == ("amount", "parameter_invalid_integer")
    made = client.v1.payment_intents.create({"amount": 1, "currency": "usd"}, {"idempotency_key": "k-1"})
    assert made.amount == 1


def test_the_library_retries_by_itself_and_money_moves_once(sandbox: Sandbox) -> None:
    """The first answer is lost; the library repeats the request with the same key."""
    client = stripe.StripeClient(
        "sk_test_north", base_addresses={"api": sandbox.at("north")}, max_network_retries=2
    )
    intent = held(client, payment_method="pm_card_outage_lost", metadata={"order_id": "o-1"})
    assert intent.status == "requires_capture"
    assert len(sandbox.ledger("north", "o-1")["charges"]) == 1


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "amount"),
        ({"amount": 10}, "parameter_missing", "currency"),
        ({"amount": "ten", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": -1, "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10**9, "currency": "usd"}, "amount_too_large", "amount"),
        ({"amount": 10, "currency": "usd", "colour": "red"}, "parameter_unknown", "colour"),
        (
            {"amount": 10, "currency": "usd", "payment_method": "pm_none"},
            "resource_missing",
            "payment_method",
        ),
    ],
)
def test_bad_parameters_are_refused_by_name(
    client: stripe.StripeClient, params: Any, code: str, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payment_intents.create(params)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)


def test_an_unknown_id_is_not_found(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payment_intents.retrieve("pi_none")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


@pytest.mark.parametrize("key", ["", "pk_test_x", "sk_live_x"])
def test_only_test_keys_open_the_door(sandbox: Sandbox, key: str) -> None:
    client = stripe.StripeClient(key or "x", base_addresses={"api": sandbox.at("north")})
    with pytest.raises(stripe.AuthenticationError):
        client.v1.payment_intents.list()


def test_an_expired_key_and_a_rate_limit_come_as_the_librarys_own_errors(
    client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    sandbox.fault("north", "bad_key")
    with pytest.raises(stripe.AuthenticationError):
        client.v1.payment_intents.list()
    sandbox.mend()
    sandbox.fault("north", "rate_limit")
    with pytest.raises(stripe.RateLimitError):
        client.v1.payment_intents.list()


def test_lists_page_and_objects_expand(client: stripe.StripeClient) -> None:
    made = [held(client, metadata={"n": str(n)}).id for n in range(5)]
    first = client.v1.payment_intents.list({"limit": 2})
    assert [one.id for one in first.data] == made[:-3:-1]
    assert first.has_more
    assert [one.id for one in first.auto_paging_iter()] == made[::-1]
    before = client.v1.payment_intents.list({"limit": 2, "ending_before": made[1]})
    assert [one.id for one in before.data] == [made[3], made[2]]
    one = client.v1.payment_intents.retrieve(made[0], {"expand": ["latest_charge", "payment_method"]})
    assert one.latest_charge.amount == 1_000
    assert one.payment_method.card.brand == "visa"


def test_search_finds_by_metadata_a_little_later(client: stripe.StripeClient) -> None:
    """As with the real one, a search lags behind: not finding something is no proof."""
    made = held(client, metadata={"order_id": "o-7"})
    query: Any = {"query": "metadata['order_id']:'o-7' AND status:'requires_capture'"}
    assert client.v1.payment_intents.search(query).data == []
    found = until(lambda: client.v1.payment_intents.search(query).data, "search catches up")
    assert [one.id for one in found] == [made.id]


def test_refunds_never_exceed_what_was_captured(client: stripe.StripeClient) -> None:
    intent = held(client)
    client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 600})
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 400})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 201})
    rest = client.v1.refunds.create({"payment_intent": intent.id})
    assert rest.amount == 200
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert caught.value.code == "charge_already_refunded"
    listed = client.v1.refunds.list({"payment_intent": intent.id})
    assert sum(one.amount for one in listed.data) == 600


@pytest.mark.parametrize(("token", "states", "kept"), [
    ("pm_card_pendingRefund", ["pending", "succeeded"], 0),
    ("pm_card_refundFail", ["succeeded", "failed"], 1_000),
])  # fmt: skip
def test_a_refund_may_take_its_time_or_fail(
    client: stripe.StripeClient, sandbox: Sandbox, token: str, states: list[str], kept: int
) -> None:
    intent = held(client, payment_method=token, capture_method="automatic")
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == states[0]
    until(lambda: client.v1.refunds.retrieve(refund.id).status == states[1], f"the refund is {states[1]}")
    assert sandbox.kept_minor("north") == kept


def test_two_providers_know_nothing_of_each_other(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    intent = held(client)
    south = stripe.StripeClient("sk_test_south", base_addresses={"api": sandbox.at("south")})
    with pytest.raises(stripe.InvalidRequestError):
        south.v1.payment_intents.retrieve(intent.id)
    assert sandbox.ledger("south")["charges"] == []


async def test_the_library_verifies_the_webhooks_signature(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.hooks("north", receiver.url)
    http = stripe.HTTPXClient()
    aside = stripe.StripeClient(
        "sk_test_north", base_addresses={"api": sandbox.at("north")}, http_client=http
    )
    made = await aside.v1.payment_intents.create_async(
        {"amount": 1_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    )
    await http.close_async()
    await taken(receiver, 3)
    told = {}
    for headers, body in receiver.taken:
        event = client.construct_event(body, headers["stripe-signature"], "whsec_sandbox_north")
        told[event.type] = event
    assert set(told) == {"payment_intent.created", "payment_intent.succeeded", "charge.succeeded"}
    assert json.loads(str(told["payment_intent.succeeded"].data.object))["id"] == made.id
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(body, headers["stripe-signature"], "whsec_other")


async def taken(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(10):
        while len(receiver.taken) < count:
            await asyncio.sleep(0.01)
