"""What the bank rail adds: confirmed later, fenced only by an expiry of its own, settled by file."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from holdfast.adapters.rails.bank import BankRail, read_settlement
from holdfast.adapters.rails.wire import RailEventInvalid, SettlementFileInvalid
from holdfast.base.clock import SystemClock
from holdfast.base.money import Money, asset
from holdfast.domains.payments.ports import Answer, FenceClass, Op, Order, Said
from holdfast.platform.http import HttpClient
from tests.rails.conftest import order, settings
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

SKEW = timedelta(seconds=5)
"""How much earlier than we the bank is told to stop."""


def transfer(reference: str = "att_1", token: str = "HB-0001-OK", **more: Any) -> Order:
    return order(Op.AUTHORIZE, reference, token=token, **more)


def query(reference: str = "att_1") -> Order:
    return order(Op.QUERY, reference, token="HB-0001-OK")


async def says(harbour: BankRail, said: Said, reference: str = "att_1") -> Answer:
    async def ask() -> Answer:
        while (answer := await harbour.send(query(reference))).said is not said:
            await asyncio.sleep(0.02)
        return answer

    return await asyncio.wait_for(ask(), 10)


def test_its_traits_say_what_it_can_do(harbour: BankRail) -> None:
    traits = harbour.traits
    assert (traits.fence, traits.one_step, traits.confirms_later) == (FenceClass.F1, True, True)
    assert traits.expires_s is not None
    assert not traits.tombstones


async def test_a_transfer_is_pending_and_confirmed_later(harbour: BankRail, sandbox: Sandbox) -> None:
    assert (await harbour.send(transfer())).said is Said.PENDING
    answer = await says(harbour, Said.CAPTURED)
    assert answer.amount == Money(asset("USD"), 1_000)
    assert sandbox.kept_minor("harbour") == 1_000


@pytest.mark.parametrize(
    ("token", "code", "payer_fault"),
    [
        ("HB-0010-NOFUNDS", "AM04", True),
        ("HB-0011-CLOSED", "AC04", True),
        ("HB-0012-BLOCKED", "AC06", True),
        ("HB-0013-LIMIT", "AM02", True),
        ("HB-0014-UNSAID", "MS03", False),
    ],
)
async def test_a_rejection_names_its_reason(
    harbour: BankRail, token: str, code: str, payer_fault: bool
) -> None:
    answer = await harbour.send(transfer(token=token))
    assert (answer.said, answer.code, answer.payer_fault) == (Said.DECLINED, code, payer_fault)


async def test_what_is_not_settled_in_time_expires_for_good(harbour: BankRail, sandbox: Sandbox) -> None:
    ends = datetime.now(UTC) + SKEW + timedelta(seconds=0.4)
    assert (await harbour.send(transfer(token="HB-0004-NEVER", expires_at=ends))).said is Said.PENDING
    answer = await says(harbour, Said.DECLINED)
    assert answer.code == "expired"
    assert sandbox.kept_minor("harbour") == 0


async def test_the_bank_stops_before_we_stop_waiting(harbour: BankRail) -> None:
    ends = datetime.now(UTC) + SKEW + timedelta(seconds=0.4)
    await harbour.send(transfer(token="HB-0004-NEVER", expires_at=ends))
    await says(harbour, Said.DECLINED)
    assert datetime.now(UTC) < ends, "definite before the expiry that flows wait for"


async def test_a_request_that_reaches_the_bank_after_its_expiry_is_never_settled(
    harbour: BankRail, sandbox: Sandbox
) -> None:
    """The request was under way for longer than it may live: what the wait for the expiry relies on."""
    sandbox.fault("harbour", "slow", latency_ms=700, operations=["initiate"])
    ends = datetime.now(UTC) + SKEW + timedelta(seconds=0.3)
    assert (await harbour.send(transfer(expires_at=ends, timeout_s=0.2))).said is Said.UNKNOWN
    assert (await harbour.send(query())).said is Said.NOT_FOUND
    answer = await says(harbour, Said.DECLINED)
    assert answer.code == "TM01"
    assert sandbox.kept_minor("harbour") == 0


async def test_what_has_expired_is_not_even_sent(harbour: BankRail, sandbox: Sandbox) -> None:
    answer = await harbour.send(transfer(expires_at=datetime.now(UTC) + SKEW))
    assert (answer.said, answer.code) == (Said.NOT_SENT, "expired")
    assert sandbox.control("GET", "state")["instances"][2]["requests"] == 0


@pytest.mark.parametrize("op", [Op.CANCEL, Op.CAPTURE])
async def test_it_has_no_cancel_and_no_capture(harbour: BankRail, op: Op) -> None:
    answer = await harbour.send(order(op, "att_1", token="HB-0001-OK"))
    assert (answer.said, answer.code) == (Said.NOT_SENT, "operation_unsupported")


async def test_one_reference_is_never_used_for_two_different_transfers(
    harbour: BankRail, sandbox: Sandbox
) -> None:
    await harbour.send(transfer())
    answer = await harbour.send(transfer(amount=2_000))
    assert (answer.said, answer.code) == (Said.UNKNOWN, "reference_conflict")
    await says(harbour, Said.CAPTURED)
    assert sandbox.kept_minor("harbour") == 1_000


async def test_the_amount_that_the_bank_took_is_told(harbour: BankRail, sandbox: Sandbox) -> None:
    sandbox.fault("harbour", "wrong_amount")
    await harbour.send(transfer())
    assert (await says(harbour, Said.CAPTURED)).amount == Money(asset("USD"), 999)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"", Said.UNKNOWN),
        (200, b"{}", Said.UNKNOWN),
        (200, b"[]", Said.UNKNOWN),
        (200, b"<html>maintenance</html>", Said.UNKNOWN),
        (200, b'{"status": "settled"}', Said.UNKNOWN),
        (200, b'{"status": "settled", "transfer_id": "t", "amount_minor": null}', Said.UNKNOWN),
        (200, b'{"status": "settled", "transfer_id": "t", "amount_minor": 1e300}', Said.UNKNOWN),
        (200, b'{"status": "lent", "transfer_id": "t", "amount_minor": 1000}', Said.UNKNOWN),
        (200, b'{"status": "settled", "transfer_id": "t", "amount_minor": 1000}', Said.CAPTURED),
        (302, b"", Said.UNKNOWN),
        (400, b'{"error": {"code": "x"}}', Said.UNKNOWN),
        (404, b"<html>not here</html>", Said.UNKNOWN),
        (404, b'{"error": {"code": "transfer_unknown"}}', Said.NOT_FOUND),
        (409, b'{"error": {"code": "reference_conflict"}}', Said.UNKNOWN),
        (422, b'{"error": {"code": "amount_invalid"}}', Said.DECLINED),
        (429, b"", Said.UNKNOWN),
        (503, b'{"error": {"code": "internal"}}', Said.UNKNOWN),
    ],
)
async def test_what_is_not_in_the_table_proves_nothing(
    http: HttpClient, status: int, body: bytes, said: Said
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(talk, "127.0.0.1", 0)
    where = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    answer = await BankRail(settings("harbour", where), http, SystemClock()).send(transfer())
    running.close()
    assert answer.said is said, answer


# messages


def signed(body: bytes, *, secret: str = "whsec_sandbox_harbour", age_s: float = 0.0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    return {
        "webhook-id": "hbe_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("hbe_1", at, body.decode()),
    }


def message(kind: str, status: str, **more: object) -> bytes:
    data = {
        "end_to_end_id": "att_1",
        "transfer_id": "hbt_1",
        "status": status,
        "amount_minor": 1_000,
        "currency": "USD",
        "reason": None,
        "message": None,
        "returned_minor": 0,
    } | more
    return json.dumps(
        {"id": "hbe_1", "type": kind, "timestamp": "2026-01-01T00:00:00.000+00:00", "data": data}
    ).encode()


@pytest.mark.parametrize(
    ("body", "said", "amount", "code"),
    [
        (message("transfer.settled", "settled"), Said.CAPTURED, 1_000, ""),
        (message("transfer.rejected", "rejected", reason="AM04"), Said.DECLINED, 1_000, "AM04"),
        (message("transfer.expired", "expired", reason="AB05"), Said.DECLINED, 1_000, "AB05"),
        (message("return.settled", "settled", returned_minor=400), Said.REFUNDED, 400, ""),
    ],
)
def test_each_message_tells_the_state_of_the_attempt(
    harbour: BankRail, body: bytes, said: Said, amount: int, code: str
) -> None:
    event = harbour.read_event(signed(body), body)
    assert event is not None
    assert (event.id, event.rail, event.reference, event.remote_id) == ("hbe_1", "harbour", "att_1", "hbt_1")
    assert (event.said, event.amount, event.code) == (said, Money(asset("USD"), amount), code)


def test_messages_about_other_things_are_of_no_concern(harbour: BankRail) -> None:
    body = message("account.opened", "settled")
    assert harbour.read_event(signed(body), body) is None


@pytest.mark.parametrize(
    "headers",
    [{}, signed(b"{}", secret="whsec_" + "b3RoZXI=" * 4), signed(b"{ }"), signed(b"{}", age_s=301)],
    ids=["none", "another secret", "another body", "too old"],
)
def test_a_message_with_a_bad_signature_is_refused(harbour: BankRail, headers: dict[str, str]) -> None:
    with pytest.raises(RailEventInvalid):
        harbour.read_event(headers, b"{}")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"7", message("transfer.settled", "no such status")])
def test_a_signed_message_that_cannot_be_read_is_refused(harbour: BankRail, body: bytes) -> None:
    with pytest.raises(RailEventInvalid):
        harbour.read_event(signed(body), body)


# the settlement file


async def test_the_settlement_file_tells_all_that_moved(harbour: BankRail, sandbox: Sandbox) -> None:
    for number in range(3):
        await harbour.send(transfer(f"att_{number}", amount=1_000 + number))
    for number in range(3):
        await says(harbour, Said.CAPTURED, f"att_{number}")
    await harbour.send(order(Op.REFUND, "att_0", amount=400, token="HB-0001-OK"))
    until(lambda: sandbox.kept_minor("harbour", "att_0") == 600, "the return arrived")
    since = datetime.now(UTC) - timedelta(hours=1)
    rows = await harbour.settlement(since, datetime.now(UTC) + timedelta(seconds=1))
    told = sorted((row.kind, row.reference, row.amount.amount_minor) for row in rows)
    assert told == [
        ("charge", "att_0", 1_000),
        ("charge", "att_1", 1_001),
        ("charge", "att_2", 1_002),
        ("return", "att_0", 400),
    ]
    assert all(since < row.at <= datetime.now(UTC) for row in rows)
    assert await harbour.settlement(since, since + timedelta(minutes=1)) == ()


HEAD = "kind,end_to_end_id,transfer_id,amount_minor,currency,at\n"
LINE = "charge,att_1,hbt_1,1000,USD,2026-01-01T00:00:00.000+00:00\n"
BACK = "return,att_1,hbt_1,400,USD,2026-01-02T00:00:00.000+00:00\n"
TRAILER = "trailer,{},,{},,2026-01-03T00:00:00.000+00:00\n"


def test_a_whole_file_is_read() -> None:
    rows = read_settlement("harbour", (HEAD + LINE + BACK + TRAILER.format(2, 600)).encode())
    assert [(row.rail, row.kind, row.amount.amount_minor) for row in rows] == [
        ("harbour", "charge", 1_000),
        ("harbour", "return", 400),
    ]
    assert read_settlement("harbour", (HEAD + TRAILER.format(0, 0)).encode()) == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEAD,
        HEAD + LINE,
        HEAD + LINE + BACK + TRAILER.format(3, 600),
        HEAD + LINE + BACK + TRAILER.format(2, 601),
        LINE + TRAILER.format(1, 1_000),
        HEAD + LINE.replace("1000", "ten") + TRAILER.format(1, 1_000),
        HEAD + LINE.replace("USD", "XXX") + TRAILER.format(1, 1_000),
        HEAD + LINE.replace("charge", "gift") + TRAILER.format(1, 1_000),
        HEAD + LINE.replace("2026-01-01", "2026-13-01") + TRAILER.format(1, 1_000),
        HEAD + "charge,att_1\n" + TRAILER.format(1, 1_000),
        HEAD + TRAILER.format("", ""),
        "<html>maintenance</html>",
    ],
)
def test_half_a_file_is_no_file(content: str) -> None:
    with pytest.raises(SettlementFileInvalid):
        read_settlement("harbour", content.encode())


@pytest.mark.parametrize("fault", ["error_before", "lost", "bad_key", "rate_limit"])
async def test_a_file_that_cannot_be_fetched_is_said_to_be_missing(
    harbour: BankRail, sandbox: Sandbox, fault: str
) -> None:
    sandbox.fault("harbour", fault)
    with pytest.raises(SettlementFileInvalid):
        await harbour.settlement(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC))


async def test_a_bank_that_is_not_there_leaves_no_file(http: HttpClient) -> None:
    rail = BankRail(settings("harbour", "http://no-such-host.invalid"), http, SystemClock())
    with pytest.raises(SettlementFileInvalid):
        await rail.settlement(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC))
