"""Payments on a real database.

What is committed is what is read, and a payment survives whoever carries it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from holdfast.adapters.rails.book import BookRail
from holdfast.base.clock import SystemClock
from holdfast.base.errors import Broken
from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, PaymentId, TransferId
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.payments import store_rows as rows
from holdfast.domains.payments.errors import KeyClaimed
from holdfast.domains.payments.model import AttemptState, Case, Evidence, Method, NewPayment, Op, PaymentState
from holdfast.domains.payments.ports import Answer, FenceClass, Order, Rail, RailTraits, Said
from holdfast.domains.payments.rules.router import FixedOrder
from holdfast.domains.payments.store import PostgresBook
from holdfast.flows import chart, pay, reconcile
from holdfast.flows.carry import Carrier
from holdfast.flows.desk import Desk, PaySettings
from holdfast.flows.draft import Draft
from holdfast.flows.refund import refund
from holdfast.platform import idempotency
from holdfast.platform.db import Database
from holdfast.platform.unit import Guard

CNY = asset("CNY")


class ObedientRail:
    """A rail that does what it is told, unless `say` has an answer of its own."""

    def __init__(self, name: str, *, one_step: bool = False) -> None:
        fence = FenceClass.F2 if one_step else FenceClass.F4
        self.traits = RailTraits(name, "card", fence, one_step, 86_400, ("card",), ("CNY",))
        self.say: Callable[[Order], Answer | None] = lambda order: None

    async def send(self, order: Order) -> Answer:
        said = self.say(order)
        if said is not None:
            return said
        charges = Said.CAPTURED if self.traits.one_step else Said.AUTHORIZED
        done = {
            Op.AUTHORIZE: charges,
            Op.CAPTURE: Said.CAPTURED,
            Op.CANCEL: Said.CANCELED,
            Op.REFUND: Said.REFUNDED,
        }
        return Answer(done.get(order.op, Said.NOT_FOUND), remote_id="r-" + order.reference)


_seats: list[Seat] = []


@pytest.fixture(autouse=True)
async def leave_seats() -> AsyncIterator[None]:
    """Let go of the seats that a test took."""
    yield
    while _seats:
        await _seats.pop().close()


class Shop:
    """A merchant, a payer with 1000.00 CNY and a card, and two card rails, on a real database."""

    def __init__(self, database: Database) -> None:
        clock = SystemClock()
        self.ids = IdSource(lambda: int(time.time() * 1000), os.urandom)
        lane = Seat(database, clock)
        _seats.append(lane)
        self.ledger = PostgresLedger(database, lane)
        self.north, self.south = ObedientRail("north"), ObedientRail("south", one_step=True)
        book = BookRail(self.ledger, payer=chart.payer, clearing=chart.rail)
        rails: dict[str, Rail] = {"north": self.north, "south": self.south, "book": book}
        self.desk = Desk(
            clock, self.ids, lane, self.ledger, PostgresBook(database), rails, FixedOrder(), PaySettings()
        )
        self.merchant, self.payer = MerchantId(self.ids.new()), PayerId(self.ids.new())
        self.card = Method(InstrumentId(self.ids.new()), "card", "Visa", "tok_visa")
        self.balance = Method(InstrumentId(self.ids.new()), "balance", "Balance", "")

    async def open(self) -> None:
        world, own = chart.world("CNY"), chart.payer(self.payer, "CNY")
        await self.ledger.open_accounts([world, own])
        await self.ledger.post(
            [NewTransfer(TransferId(self.ids.new()), world.number, own.number, "CNY", 100_000)]
        )

    def wants(self, minor: int, *methods: Method, manual: bool = False) -> NewPayment:
        amount = Money(CNY, minor)
        return NewPayment(self.merchant, self.payer, amount, methods, "manual" if manual else "automatic")

    async def holds(self, code: str) -> int:
        number = chart.number(code)
        return (await self.ledger.balances([number]))[number].net_minor

    async def merchant_holds(self) -> int:
        return await self.holds(chart.merchant(self.merchant, "CNY").code)


async def shop(database: Database) -> Shop:
    made = Shop(database)
    await made.open()
    return made


async def test_a_payment_by_card_succeeds_and_pays_the_merchant(database: Database) -> None:
    s = await shop(database)
    paid = await pay.create(s.desk, s.wants(500, s.card))
    assert paid.state is PaymentState.SUCCEEDED
    assert await s.desk.book.payment(paid.id) == paid
    assert await s.merchant_holds() == 500


async def test_a_payment_from_balance_succeeds_and_pays_the_merchant(database: Database) -> None:
    s = await shop(database)
    paid = await pay.create(s.desk, s.wants(500, s.balance))
    assert paid.state is PaymentState.SUCCEEDED
    assert await s.desk.book.payment(paid.id) == paid
    assert await s.merchant_holds() == 500


async def test_a_payment_from_balance_is_kept_whole_though_it_is_written_in_one_row(
    database: Database,
) -> None:
    s = await shop(database)
    paid = await pay.create(s.desk, s.wants(300, s.balance, s.card))
    case = await s.desk.book.case(paid.id)
    assert case is not None
    assert case.payment == paid
    (attempt,), (line,) = case.attempts, await s.desk.book.journal(paid.id)
    assert (attempt.rail, attempt.state, attempt.evidence) == (
        "book",
        AttemptState.CAPTURED,
        Evidence.SETTLEMENT,
    )
    assert (paid.kept, attempt.method, attempt.verified) == (attempt.id, s.balance, True)
    assert (line.event, line.attempt_id, line.at) == ("paid_from_balance", attempt.id, paid.created_at)
    row = rows.paid_row(rows.asked_row(paid) + rows.plan_row(paid), attempt, line)
    assert rows.paid_of(row) == (paid, attempt, line), (
        "what is read in memory is what is read from the tables"
    )


async def test_an_empty_balance_gives_way_to_the_next_method(database: Database) -> None:
    s = await shop(database)
    paid = await pay.create(s.desk, s.wants(100_001, s.balance, s.card))
    assert paid.state is PaymentState.SUCCEEDED
    assert [a.rail for a in await s.desk.book.attempts(paid.id)] == ["book", "north"]
    assert await s.merchant_holds() == 100_001


async def test_an_empty_balance_alone_is_declined_and_moves_nothing(database: Database) -> None:
    s = await shop(database)
    paid = await pay.create(s.desk, s.wants(100_001, s.balance))
    assert (paid.state, paid.failure_code) == (PaymentState.FAILED, "insufficient_funds")
    assert await s.merchant_holds() == 0


async def test_a_rail_that_does_not_answer_is_passed_and_its_hold_released_later(database: Database) -> None:
    s = await shop(database)
    s.north.say = lambda order: Answer(Said.UNKNOWN)
    paid = await pay.create(s.desk, s.wants(500, s.card))
    assert paid.state is PaymentState.SUCCEEDED
    s.north.say = lambda order: None
    deadline = time.monotonic() + 20
    while any(a.state not in ("captured", "canceled") for a in await s.desk.book.attempts(paid.id)):
        assert time.monotonic() < deadline
        await reconcile.resolve_due(s.desk)
    assert [a.state for a in await s.desk.book.attempts(paid.id)] == ["canceled", "captured"]
    assert await s.merchant_holds() == 500


async def test_a_hold_on_the_balance_is_captured_in_part_and_refunded_to_it(database: Database) -> None:
    s = await shop(database)
    held = await pay.create(s.desk, s.wants(500, s.balance, manual=True))
    assert held.state is PaymentState.AUTHORIZED
    taken = await pay.capture(s.desk, held.id, 300)
    assert (taken.state, taken.captured_minor) == (PaymentState.SUCCEEDED, 300)
    assert await s.merchant_holds() == 300
    back = await refund(s.desk, held.id, 100)
    assert back.state == "succeeded"
    assert await s.merchant_holds() == 200
    assert await s.holds(chart.payer(s.payer, "CNY").code) == 100_000 - 200
    assert await s.holds("rail:book:CNY") == 0


async def test_a_held_payment_can_be_canceled(database: Database) -> None:
    s = await shop(database)
    held = await pay.create(s.desk, s.wants(500, s.card, manual=True))
    assert held.state is PaymentState.AUTHORIZED
    assert (await pay.cancel(s.desk, held.id)).state is PaymentState.CANCELED


async def test_a_card_refund_goes_back_through_its_rail(database: Database) -> None:
    s = await shop(database)
    paid = await pay.create(s.desk, s.wants(500, s.card))
    back = await refund(s.desk, paid.id, 200)
    assert back.state == "succeeded"
    assert await s.merchant_holds() == 300
    assert await s.holds("rail:north:CNY") == -300


async def test_the_wallet_stands_in_up_to_the_payers_limit_and_no_further(database: Database) -> None:
    s = await shop(database)
    s.desk = dataclasses.replace(
        s.desk, settings=PaySettings(stand_in_limit_minor=1_000, answer_within_s=2.0)
    )
    s.north.say = s.south.say = lambda order: Answer(Said.UNKNOWN)
    asked = dataclasses.replace(s.wants(600, s.card), funding="absorb")
    both = await asyncio.gather(pay.create(s.desk, asked), pay.create(s.desk, asked))
    assert sorted(payment.state for payment in both) == [PaymentState.PENDING, PaymentState.SUCCEEDED]
    assert await s.holds("in_doubt:CNY") == -600
    s.north.say = s.south.say = lambda order: None
    await at_rest(s)
    assert await s.holds("in_doubt:CNY") == 0
    assert await s.merchant_holds() == 1_200


async def at_rest(s: Shop) -> None:
    """Have a worker go on until no payment of the merchant is due."""
    deadline = time.monotonic() + 30
    while any(payment.next_step_at for payment in await s.desk.book.listing(s.merchant)):
        assert time.monotonic() < deadline
        await reconcile.resolve_due(s.desk)


async def in_doubt(s: Shop, count: int) -> list[PaymentId]:
    """Make payments whose first request nobody answered and whose driver died."""
    never = asyncio.Event()
    asked = asyncio.Semaphore(0)

    async def hang(order: Order) -> Answer:
        asked.release()
        await never.wait()
        return Answer(Said.UNKNOWN)

    s.north.send = hang  # type: ignore[method-assign]
    tasks = [asyncio.create_task(pay.create(s.desk, s.wants(100, s.card))) for _ in range(count)]
    for _ in range(count):
        await asked.acquire()
    for task in tasks:
        task.cancel()
    del s.north.send
    return [payment.id for payment in await s.desk.book.listing(s.merchant)]


async def test_what_a_dead_driver_left_is_taken_over_by_exactly_one_worker(database: Database) -> None:
    s = await shop(database)
    s.desk = dataclasses.replace(s.desk, settings=PaySettings(lease_s=0.5, deadline_s=2.0))
    ids = await in_doubt(s, 12)
    assert len(ids) == 12
    later = s.desk.clock.now() + timedelta(seconds=60)
    claims = [s.desk.book.claim_due(later, later + timedelta(seconds=5), 5) for _ in range(4)]
    claimed = [case.payment.id for cases in await asyncio.gather(*claims) for case in cases]
    assert sorted(claimed) == sorted(ids)


async def test_a_driver_that_was_taken_over_from_changes_nothing_more(database: Database) -> None:
    s = await shop(database)
    (id_,) = await in_doubt(s, 1)
    stale = await s.desk.book.case(id_)
    assert stale is not None
    later = s.desk.clock.now() + timedelta(seconds=600)
    assert len(await s.desk.book.claim_due(later, later, 5)) == 1
    draft = Draft(s.desk, stale)
    draft.note("late", "a driver that did not notice")
    assert (await draft.commit()).status == "conflict"
    assert "late" not in [entry.event for entry in await s.desk.book.journal(id_)]


async def test_what_a_dead_driver_left_ends_well_with_no_help(database: Database) -> None:
    s = await shop(database)
    s.desk = dataclasses.replace(s.desk, settings=PaySettings(lease_s=0.3, deadline_s=3.0))
    await in_doubt(s, 5)
    await at_rest(s)
    ended = await s.desk.book.listing(s.merchant)
    assert {payment.state for payment in ended} <= {PaymentState.SUCCEEDED, PaymentState.FAILED}
    succeeded = [payment for payment in ended if payment.state is PaymentState.SUCCEEDED]
    assert await s.merchant_holds() == 100 * len(succeeded)


async def test_what_a_rail_charged_and_the_ledger_has_no_room_for_waits_and_is_booked_later(
    database: Database,
) -> None:
    s = await shop(database)
    told: list[tuple[str, PaymentId]] = []
    s.desk = dataclasses.replace(
        s.desk,
        settings=PaySettings(lease_s=0.2),
        alert=lambda what, payment, _why: told.append((what, payment)),
    )
    source, full = chart.fees("CNY"), chart.merchant(s.merchant, "CNY")
    await s.ledger.open_accounts([source, full])
    most = NewTransfer(TransferId(s.ids.new()), source.number, full.number, "CNY", 2**53 - 1)
    assert (await s.ledger.post([most]))[0].outcome.moved
    waits = await pay.create(s.desk, s.wants(500, s.card))
    assert not waits.final
    assert ("booking_refused", waits.id) in told, "an operator is told"
    other = await pay.create(
        s.desk, dataclasses.replace(s.wants(100, s.card), merchant_id=MerchantId(s.ids.new()))
    )
    assert other.state is PaymentState.SUCCEEDED, "the rail goes on serving everybody else"
    room = NewTransfer(TransferId(s.ids.new()), full.number, source.number, "CNY", 10_000)
    await s.ledger.post([room])
    await at_rest(s)
    paid = await s.desk.book.payment(waits.id)
    assert paid is not None
    assert paid.state is PaymentState.SUCCEEDED


async def test_one_payment_that_cannot_be_carried_on_does_not_hold_up_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = await shop(database)
    s.desk = dataclasses.replace(s.desk, settings=PaySettings(lease_s=0.2, deadline_s=3.0))
    broken, *_ = await in_doubt(s, 4)
    real = Carrier.run

    async def run(carrier: Carrier) -> Case:
        if carrier.payment.id == broken:
            raise Broken("a defect of ours")
        return await real(carrier)

    monkeypatch.setattr(Carrier, "run", run)
    deadline = time.monotonic() + 30
    while sum(payment.final for payment in await s.desk.book.listing(s.merchant)) < 3:
        assert time.monotonic() < deadline
        await reconcile.resolve_due(s.desk)


async def test_payments_are_listed_newest_first_page_by_page(database: Database) -> None:
    s = await shop(database)
    made = [(await pay.create(s.desk, s.wants(1, s.balance))).id for _ in range(5)]
    first = await s.desk.book.listing(s.merchant, limit=3)
    rest = await s.desk.book.listing(s.merchant, after=first[-1].id, limit=3)
    assert [payment.id for payment in (*first, *rest)] == made[::-1]
    assert not await s.desk.book.listing(s.merchant, state=PaymentState.FAILED)


async def test_a_hundred_payments_at_once_never_spend_more_than_there_is(database: Database) -> None:
    s = await shop(database)
    all_ = await asyncio.gather(*(pay.create(s.desk, s.wants(1_500, s.balance)) for _ in range(100)))
    paid = [payment for payment in all_ if payment.state is PaymentState.SUCCEEDED]
    assert len(paid) == 66
    assert await s.merchant_holds() == 99_000
    assert all(payment.state is PaymentState.FAILED for payment in all_ if payment not in paid)


async def test_an_idempotency_key_opens_one_payment(database: Database) -> None:
    s = await shop(database)

    def claim() -> Guard:
        return idempotency.claim("mer", "key-1", b"f", "pay_x", s.desk.clock.now())

    await pay.create(s.desk, s.wants(100, s.balance), claim=claim())
    for method in (s.balance, s.card):
        with pytest.raises(KeyClaimed):
            await pay.create(s.desk, s.wants(100, method), claim=claim())
    assert await s.merchant_holds() == 100
    assert len(await s.desk.book.listing(s.merchant)) == 1


async def test_the_callers_answer_is_kept_in_the_commit_that_ends_the_call(database: Database) -> None:
    s = await shop(database)
    for key, method in (("b", s.balance), ("c", s.card)):
        now = s.desk.clock.now()
        claim = idempotency.claim("mer", key, b"f", "pay_x", now)
        await pay.create(
            s.desk,
            s.wants(100, method),
            claim=claim,
            answer=lambda p, key=key: (idempotency.answer("mer", key, 200, p.state.value.encode()),),  # type: ignore[misc]
        )
        found = await idempotency.find(database, "mer", key)
        assert found is not None
        assert found.answer is not None
        assert found.answer.body == b"succeeded"
