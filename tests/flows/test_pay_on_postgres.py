"""Payments on a real database: what is committed is what is read, and a payment survives whoever carries it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from holdfast.adapters.rails.book import BookRail
from holdfast.base.clock import SystemClock
from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, TransferId
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.lane import GroupCommitLane
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger
from holdfast.domains.payments.model import Method, NewPayment, Op, PaymentState
from holdfast.domains.payments.ports import Answer, FenceClass, Order, RailTraits, Said
from holdfast.domains.payments.rules.router import FixedOrder
from holdfast.domains.payments.store import PostgresBook
from holdfast.flows import chart, pay, reconcile
from holdfast.flows.desk import Desk, PaySettings
from holdfast.flows.refund import refund
from holdfast.platform.db import Database

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
        done = {Op.AUTHORIZE: charges, Op.CAPTURE: Said.CAPTURED, Op.CANCEL: Said.CANCELED, Op.REFUND: Said.REFUNDED}
        return Answer(done.get(order.op, Said.NOT_FOUND), remote_id="r-" + order.reference)


class Shop:
    """A merchant, a payer with 1000.00 CNY and a card, and two card rails, on a real database."""

    def __init__(self, database: Database) -> None:
        clock = SystemClock()
        self.ids = IdSource(lambda: int(time.time() * 1000), os.urandom)
        self.ledger = PostgresLedger(database, clock)
        self.north, self.south = ObedientRail("north"), ObedientRail("south", one_step=True)
        book = BookRail(self.ledger, payer=chart.payer, clearing=chart.rail)
        rails = {"north": self.north, "south": self.south, "book": book}
        lane = GroupCommitLane(database, clock)
        self.desk = Desk(clock, self.ids, lane, self.ledger, PostgresBook(database), rails, FixedOrder(), PaySettings())
        self.merchant, self.payer = MerchantId(self.ids.new()), PayerId(self.ids.new())
        self.card = Method(InstrumentId(self.ids.new()), "card", "Visa", "tok_visa")
        self.balance = Method(InstrumentId(self.ids.new()), "balance", "Balance", "")

    async def open(self) -> None:
        world, own = chart.world("CNY"), chart.payer(self.payer, "CNY")
        await self.ledger.open_accounts([world, own])
        await self.ledger.post([NewTransfer(TransferId(self.ids.new()), world.number, own.number, "CNY", 100_000)])

    def wants(self, minor: int, *methods: Method, manual: bool = False) -> NewPayment:
        capture = "manual" if manual else "automatic"
        return NewPayment(self.merchant, self.payer, Money(CNY, minor), methods, capture)

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
