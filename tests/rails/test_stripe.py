"""What the card rail adds: holds, captures, and a fence that also stops what is still under way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from holdfast.adapters.rails.stripe import StripeRail
from holdfast.adapters.rails.stripe_messages import check_signature
from holdfast.adapters.rails.wire import RailEventInvalid, SettlementFileInvalid
from holdfast.base.clock import SystemClock
from holdfast.base.money import Money, asset
from holdfast.domains.payments.ports import Answer, FenceClass, Op, RailEvent, Said
from holdfast.platform.http import HttpClient
from tests.rails.conftest import order, settings
from tests.support.sandbox import Sandbox
from tests.support.waiting import until


async def held(north: StripeRail, reference: str = "att_1", amount: int = 1_000) -> Answer:
    answer = await north.send(order(Op.AUTHORIZE, reference, amount=amount))
    assert answer.said is Said.AUTHORIZED
    return answer


async def test_it_holds_first_and_says_so(north: StripeRail) -> None:
    assert north.traits.fence is FenceClass.F4
    assert not north.traits.one_step
    assert north.traits.tombstones


async def test_a_capture_takes_what_was_held(north: StripeRail, sandbox: Sandbox) -> None:
    known = (await held(north)).remote_id
    answer = await north.send(order(Op.CAPTURE, "att_1", remote_id=known))
    assert (answer.said, answer.amount) == (Said.CAPTURED, Money(asset("USD"), 1_000))
    assert (sandbox.held_minor("north"), sandbox.kept_minor("north")) == (0, 1_000)


async def test_a_part_can_be_captured_and_the_rest_is_released(north: StripeRail, sandbox: Sandbox) -> None:
    known = (await held(north)).remote_id
    answer = await north.send(order(Op.CAPTURE, "att_1", amount=300, remote_id=known))
    assert (answer.said, answer.amount) == (Said.CAPTURED, Money(asset("USD"), 300))
    assert (sandbox.held_minor("north"), sandbox.kept_minor("north")) == (0, 300)
    asked = await north.send(order(Op.QUERY, "att_1", remote_id=known))
    assert (asked.said, asked.amount, asked.refunded_minor) == (Said.CAPTURED, Money(asset("USD"), 300), 0)


async def test_more_than_was_held_is_not_captured_and_the_hold_stays(
    north: StripeRail, sandbox: Sandbox
) -> None:
    known = (await held(north)).remote_id
    answer = await north.send(order(Op.CAPTURE, "att_1", amount=1_001, remote_id=known))
    assert (answer.said, answer.code) == (Said.NOT_DONE, "amount_too_large")
    assert sandbox.held_minor("north") == 1_000


@pytest.mark.parametrize("fault", ["lost", "mute", "error_after"])
async def test_a_capture_without_an_answer_is_found_by_repeating_it(
    north: StripeRail, sandbox: Sandbox, fault: str
) -> None:
    """No key goes with a capture, or a saved server error would be repeated: it happens only once anyway."""
    known = (await held(north)).remote_id
    sandbox.fault("north", fault, operations=["capture"])
    capture = order(Op.CAPTURE, "att_1", remote_id=known, timeout_s=0.4)
    assert (await north.send(capture)).said is Said.UNKNOWN
    sandbox.mend()
    again = await north.send(order(Op.CAPTURE, "att_1", remote_id=known))
    assert (again.said, again.amount) == (Said.CAPTURED, Money(asset("USD"), 1_000))
    assert sandbox.kept_minor("north") == 1_000


async def test_a_cancelled_hold_can_never_be_captured(north: StripeRail, sandbox: Sandbox) -> None:
    known = (await held(north)).remote_id
    assert (await north.send(order(Op.CANCEL, "att_1", remote_id=known))).said is Said.CANCELED
    assert (await north.send(order(Op.CANCEL, "att_1", remote_id=known))).said is Said.CANCELED, (
        "again, the same"
    )
    assert (await north.send(order(Op.CAPTURE, "att_1", remote_id=known))).said is Said.CANCELED
    assert (await north.send(order(Op.AUTHORIZE, "att_1", key="another"))).said is Said.CANCELED
    assert (sandbox.held_minor("north"), sandbox.kept_minor("north")) == (0, 0)


async def test_cancelling_what_was_captured_says_that_it_was(north: StripeRail, sandbox: Sandbox) -> None:
    known = (await held(north)).remote_id
    await north.send(order(Op.CAPTURE, "att_1", remote_id=known))
    assert (await north.send(order(Op.CANCEL, "att_1", remote_id=known))).said is Said.CAPTURED
    assert sandbox.kept_minor("north") == 1_000


async def test_cancelling_a_reference_never_seen_keeps_it_from_ever_charging(
    north: StripeRail, sandbox: Sandbox
) -> None:
    assert (await north.send(order(Op.CANCEL, "att_1"))).said is Said.CANCELED
    late = await north.send(order(Op.AUTHORIZE, "att_1"))
    assert late.said is Said.CANCELED
    assert sandbox.held_minor("north") == 0


async def test_a_saved_error_for_the_key_proves_that_nothing_was_ever_made(
    north: StripeRail, sandbox: Sandbox
) -> None:
    sandbox.fault("north", "error_after", operations=["create"])
    assert (await north.send(order(Op.AUTHORIZE, "att_1"))).said is Said.NOT_DONE
    sandbox.mend()
    answer = await north.send(order(Op.CANCEL, "att_1"))
    assert (answer.said, answer.code) == (Said.CANCELED, "never_created")


async def test_a_fence_stops_requests_that_are_still_under_way(north: StripeRail, sandbox: Sandbox) -> None:
    """Requests take longer at the provider than we wait and are then cancelled: nothing stays held."""
    seed = Random().randrange(2**32)
    print(f"seed {seed}")
    sandbox.reset(seed=seed)
    sandbox.fault("north", "slow", latency_ms=300, share=0.5, operations=["create", "confirm"])
    references = [f"att_{number}" for number in range(40)]
    answers = await asyncio.gather(
        *(north.send(order(Op.AUTHORIZE, reference, timeout_s=0.25)) for reference in references)
    )
    assert {a.said for a in answers} & {Said.UNKNOWN, Said.NOT_DONE}, "some were cut off"

    async def fence(reference: str, remote_id: str | None) -> Answer:
        while True:
            answer = await north.send(order(Op.CANCEL, reference, remote_id=remote_id))
            if answer.said not in (Said.UNKNOWN, Said.NOT_DONE, Said.NOT_SENT):
                return answer
            await asyncio.sleep(0.02)

    fenced = await asyncio.gather(*(fence(r, a.remote_id) for r, a in zip(references, answers, strict=True)))
    assert [a for a in fenced if a.said is not Said.CANCELED] == []
    await asyncio.sleep(0.4)  # longer than any delay: whatever was under way has arrived by now
    assert (sandbox.held_minor("north"), sandbox.kept_minor("north")) == (0, 0)


async def test_an_id_that_was_lost_is_found_by_our_reference(north: StripeRail) -> None:
    known = (await held(north)).remote_id

    async def found() -> Answer:
        while (answer := await north.send(order(Op.QUERY, "att_1"))).said is Said.NOT_FOUND:
            await asyncio.sleep(0.05)
        return answer

    answer = await asyncio.wait_for(found(), 10)
    assert (answer.said, answer.remote_id) == (Said.AUTHORIZED, known)


async def test_a_hold_of_another_amount_is_told_with_its_amount_and_can_be_released(
    north: StripeRail, sandbox: Sandbox
) -> None:
    sandbox.fault("north", "wrong_amount", operations=["confirm"])
    answer = await north.send(order(Op.AUTHORIZE, "att_1"))
    assert (answer.said, answer.amount) == (Said.AUTHORIZED, Money(asset("USD"), 999))
    asked = await north.send(order(Op.QUERY, "att_1", remote_id=answer.remote_id))
    assert (asked.said, asked.amount) == (Said.AUTHORIZED, Money(asset("USD"), 999))
    assert (await north.send(order(Op.CANCEL, "att_1", remote_id=answer.remote_id))).said is Said.CANCELED
    assert sandbox.held_minor("north") == 0


async def test_a_payment_that_was_made_with_another_amount_is_never_confirmed(
    north: StripeRail, sandbox: Sandbox
) -> None:
    sandbox.fault("north", "wrong_amount", operations=["create"])
    answer = await north.send(order(Op.AUTHORIZE, "att_1"))
    assert (answer.said, answer.code) == (Said.NOT_DONE, "amount_mismatch")
    assert sandbox.held_minor("north") == 0


async def test_a_capture_of_another_amount_is_told_with_its_amount(
    north: StripeRail, sandbox: Sandbox
) -> None:
    known = (await held(north)).remote_id
    sandbox.fault("north", "wrong_amount", operations=["capture"])
    answer = await north.send(order(Op.CAPTURE, "att_1", remote_id=known))
    assert (answer.said, answer.amount) == (Said.CAPTURED, Money(asset("USD"), 999))


DECLINES = [
    ("pm_card_chargeDeclined", "generic_decline", False),
    ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds", True),
    ("pm_card_chargeDeclinedLostCard", "lost_card", True),
    ("pm_card_chargeDeclinedStolenCard", "stolen_card", True),
    ("pm_card_chargeDeclinedExpiredCard", "expired_card", True),
    ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", True),
    ("pm_card_chargeDeclinedProcessingError", "processing_error", False),
    ("pm_card_authenticationRequired", "authentication_required", True),
    ("pm_no_such_token", "resource_missing", False),
]


@pytest.mark.parametrize(("token", "code", "payer_fault"), DECLINES)
async def test_each_decline_names_its_reason_and_whose_fault_it_is(
    north: StripeRail, sandbox: Sandbox, token: str, code: str, payer_fault: bool
) -> None:
    answer = await north.send(order(Op.AUTHORIZE, "att_1", token=token))
    assert (answer.said, answer.code, answer.payer_fault) == (Said.DECLINED, code, payer_fault)
    assert sandbox.held_minor("north") == 0


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"{}", Said.UNKNOWN),
        (200, b"<html>maintenance</html>", Said.UNKNOWN),
        (200, b"[]", Said.UNKNOWN),
        (200, b'{"id": "pi_1", "status": "requires_capture"}', Said.UNKNOWN),
        (200, b'{"id": "pi_1", "status": "requires_capture", "amount_capturable": "x"}', Said.UNKNOWN),
        (
            200,
            b'{"id": "pi_1", "status": "succeeded", "currency": "usd", "amount_received": 1e300}',
            Said.UNKNOWN,
        ),
        (200, b'{"id": "pi_1", "status": "weird"}', Said.UNKNOWN),
        (400, b'{"error": []}', Said.UNKNOWN),
        (402, b'{"error": "no"}', Said.UNKNOWN),
        (204, b"", Said.UNKNOWN),
        (302, b"", Said.UNKNOWN),
        (400, b"", Said.UNKNOWN),
        (401, b"", Said.UNKNOWN),
        (429, b"<html>slow down</html>", Said.UNKNOWN),
        (402, b'{"error": {"type": "something_else"}}', Said.UNKNOWN),
        (409, b'{"error": {"type": "invalid_request_error", "code": "lock_timeout"}}', Said.UNKNOWN),
        (400, b'{"error": {"type": "idempotency_error"}}', Said.UNKNOWN),
        (500, b'{"error": {"type": "api_error"}}', Said.UNKNOWN),
        (502, b"bad gateway", Said.UNKNOWN),
        (599, b"", Said.UNKNOWN),
        (429, b'{"error": {"type": "invalid_request_error", "code": "lock_timeout"}}', Said.NOT_DONE),
        (401, b'{"error": {"type": "invalid_request_error"}}', Said.NOT_DONE),
        (403, b'{"error": {"type": "invalid_request_error"}}', Said.NOT_DONE),
        (402, b'{"error": {"type": "card_error", "code": "card_declined"}}', Said.DECLINED),
        (400, b'{"error": {"type": "invalid_request_error", "code": "parameter_invalid"}}', Said.DECLINED),
    ],
)
async def test_what_is_not_in_the_table_proves_nothing(
    http: HttpClient, status: int, body: bytes, said: Said
) -> None:
    """The answers come from a real socket whose only purpose is to answer the confirmation so."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + (b"" if status == 204 else body))
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(talk, "127.0.0.1", 0)
    rail = StripeRail(
        settings("north", f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"), http, SystemClock()
    )
    answer = await rail.send(order(Op.AUTHORIZE, "att_1", remote_id="pi_known"))
    running.close()
    assert answer.said is said, answer


# the list of movements


async def test_the_list_of_movements_tells_all_that_was_taken_and_given_back(
    north: StripeRail, sandbox: Sandbox
) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    for number in range(3):
        known = (await held(north, f"att_{number}", 1_000 + number)).remote_id
        await north.send(order(Op.CAPTURE, f"att_{number}", amount=500 + number, remote_id=known))
    await held(north, "att_only_held")
    await north.send(order(Op.REFUND, "att_2", amount=200, remote_id=known))
    rows = await north.settlement(since, datetime.now(UTC) + timedelta(seconds=2))
    assert [(row.kind, row.reference, row.amount.amount_minor) for row in rows] == [
        ("charge", "att_0", 500),
        ("charge", "att_1", 501),
        ("charge", "att_2", 502),
        ("return", "att_2", 200),
    ]
    assert rows[-1].remote_id == known
    assert await north.settlement(since, since + timedelta(minutes=1)) == ()


async def test_a_refund_that_failed_takes_its_line_back(north: StripeRail, sandbox: Sandbox) -> None:
    answer = await north.send(order(Op.AUTHORIZE, "att_1", token="pm_card_refundFail"))
    await north.send(order(Op.CAPTURE, "att_1", remote_id=answer.remote_id))
    await north.send(order(Op.REFUND, "att_1", remote_id=answer.remote_id))
    until(lambda: sandbox.kept_minor("north") == 1_000, "the refund failed")
    now = datetime.now(UTC)
    rows = await north.settlement(now - timedelta(hours=1), now + timedelta(seconds=2))
    assert [(row.kind, row.amount.amount_minor) for row in rows] == [
        ("charge", 1_000),
        ("return", 1_000),
        ("return", -1_000),
    ]


async def test_movements_beyond_one_page_are_all_told(north: StripeRail) -> None:
    async def one(number: int) -> None:
        known = (await held(north, f"att_{number}")).remote_id
        await north.send(order(Op.CAPTURE, f"att_{number}", remote_id=known))

    for start in range(0, 120, 20):
        await asyncio.gather(*(one(number) for number in range(start, start + 20)))
    now = datetime.now(UTC)
    rows = await north.settlement(now - timedelta(hours=1), now + timedelta(seconds=2))
    assert len(rows) == len({row.reference for row in rows}) == 120


@pytest.mark.parametrize("fault", ["error_before", "lost", "bad_key", "rate_limit"])
async def test_movements_that_cannot_be_fetched_are_said_to_be_missing(
    north: StripeRail, sandbox: Sandbox, fault: str
) -> None:
    sandbox.fault("north", fault, operations=["settlement"])
    with pytest.raises(SettlementFileInvalid):
        await north.settlement(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC))


# webhooks


def signed(body: bytes, *, secret: str = "whsec_sandbox_north", age_s: float = 0.0) -> dict[str, str]:
    at = int(datetime.now(UTC).timestamp() - age_s)
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={at},v1={mac}"}


def test_a_message_with_a_good_signature_is_believed() -> None:
    now_s = datetime.now(UTC).timestamp()
    check_signature(signed(b"{}"), b"{}", "whsec_sandbox_north", now_s=now_s)
    rotated = {"stripe-signature": signed(b"{}")["Stripe-Signature"] + ",v1=" + "0" * 64 + ",v0=x"}
    check_signature(rotated, b"{}", "whsec_sandbox_north", now_s=now_s)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"stripe-signature": ""},
        {"stripe-signature": "t=,v1="},
        {"stripe-signature": "v1=" + "0" * 64},
        signed(b"{}", secret="whsec_other"),
        signed(b"{ }"),
        signed(b"{}", age_s=400),
        signed(b"{}", age_s=-400),
        {"stripe-signature": signed(b"{}")["Stripe-Signature"].replace("v1=", "v0=")},
    ],
)
def test_a_message_with_a_bad_signature_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RailEventInvalid):
        check_signature(headers, b"{}", "whsec_sandbox_north", now_s=datetime.now(UTC).timestamp())


def intent(**more: Any) -> dict[str, Any]:
    metadata = {"holdfast_reference": "att_1"}
    return {"id": "pi_1", "object": "payment_intent", "currency": "usd", "metadata": metadata} | more


EVENTS = [
    ("payment_intent.amount_capturable_updated", intent(amount_capturable=1_000), Said.AUTHORIZED, 1_000, ""),
    ("payment_intent.succeeded", intent(amount_received=700), Said.CAPTURED, 700, ""),
    ("payment_intent.canceled", intent(), Said.CANCELED, None, ""),
    ("payment_intent.processing", intent(), Said.PENDING, None, ""),
    (
        "payment_intent.payment_failed",
        intent(last_payment_error={"code": "card_declined", "decline_code": "lost_card"}),
        Said.DECLINED,
        None,
        "lost_card",
    ),
    (
        "charge.refunded",
        intent(amount=1_000, amount_captured=700, amount_refunded=500, payment_intent="pi_1", id="ch_1"),
        Said.REFUNDED,
        200,
        "",
    ),
    (
        "refund.failed",
        intent(id="re_1", payment_intent="pi_1", failure_reason="lost_or_stolen_card"),
        Said.CAPTURED,
        None,
        "refund_failed",
    ),
]


@pytest.mark.parametrize(("kind", "obj", "said", "amount", "code"), EVENTS, ids=[each[0] for each in EVENTS])
def test_each_message_tells_the_state_of_the_attempt(
    north: StripeRail, kind: str, obj: dict[str, Any], said: Said, amount: int | None, code: str
) -> None:
    body = json.dumps(
        {"id": "evt_1", "type": kind, "created": 1_700_000_000, "data": {"object": obj}}
    ).encode()
    event = north.read_event(signed(body), body)
    assert isinstance(event, RailEvent)
    assert (event.id, event.rail, event.reference, event.remote_id) == ("evt_1", "north", "att_1", "pi_1")
    assert (event.said, event.code) == (said, code)
    assert event.amount == (None if amount is None else Money(asset("USD"), amount))
    assert event.at == datetime.fromtimestamp(1_700_000_000, UTC)


def test_messages_about_other_things_are_of_no_concern(north: StripeRail) -> None:
    body = json.dumps(
        {"id": "evt_1", "type": "customer.created", "created": 1, "data": {"object": {"id": "cus_1"}}}
    ).encode()
    assert north.read_event(signed(body), body) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"type": "payment_intent.succeeded"}', b"\xff"])
def test_a_signed_message_that_cannot_be_read_is_refused(north: StripeRail, body: bytes) -> None:
    with pytest.raises(RailEventInvalid):
        north.read_event(signed(body), body)


async def test_no_secret_shows_in_what_can_be_logged(sandbox: Sandbox, http: HttpClient) -> None:
    made = settings("north", sandbox.at("north"))
    rail = StripeRail(made, http, SystemClock())
    sandbox.fault("north", "bad_key")
    answer = await rail.send(order(Op.AUTHORIZE, "att_1"))
    assert "sk_test_north" not in repr((made, answer, replace(made)))
