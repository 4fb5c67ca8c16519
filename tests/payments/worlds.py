"""A merchant, a payer, and rails that do what a test tells them, in memory and on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from holdfast.adapters.rails.book import BookRail
from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, TransferId
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.memory import MemoryLane, MemoryLedger
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.payments.memory import MemoryBook
from holdfast.domains.payments.model import Method, NewPayment, Op
from holdfast.domains.payments.ports import Answer, FenceClass, Order, Rail, RailTraits, Said
from holdfast.domains.payments.rules.router import FixedOrder
from holdfast.domains.payments.rules.settings import PaySettings
from holdfast.drills.virtual_time import VirtualClock, VirtualLoop, run
from holdfast.flows import chart, reconcile
from holdfast.flows.desk import Desk

CNY = asset("CNY")
T = TypeVar("T")


class Scripted:
    """A rail whose answers a test writes: one per request, in order; afterwards it does what it is told."""

    def __init__(self, name: str, *says: Answer, **traits: Any) -> None:
        made: dict[str, Any] = {
            "kind": "card",
            "fence": FenceClass.F4,
            "one_step": False,
            "replay_key_s": 86_400,
            "methods": ("card",),
            "assets": ("CNY",),
        }
        self.traits = RailTraits(name, **(made | traits))
        self.says = list(says)
        self.asked: list[Order] = []

    async def send(self, order: Order) -> Answer:
        self.asked.append(order)
        if self.says:
            return self.says.pop(0)
        charges = Said.CAPTURED if self.traits.one_step else Said.AUTHORIZED
        said = {
            Op.AUTHORIZE: charges,
            Op.CAPTURE: Said.CAPTURED,
            Op.CANCEL: Said.CANCELED,
            Op.REFUND: Said.REFUNDED,
        }
        return Answer(said.get(order.op, Said.NOT_FOUND), remote_id="r-" + order.reference)

    @property
    def ops(self) -> list[str]:
        return [order.op.value for order in self.asked]


class Shop:
    """Everything that a flow needs, in memory."""

    def __init__(self, loop: VirtualLoop, *rails: Scripted, settings: PaySettings | None = None) -> None:
        self.clock = VirtualClock(loop)
        self.ids = IdSource(lambda: int((loop.time() + 1e9) * 1000), Random(1).randbytes)
        self.ledger = MemoryLedger(self.clock)
        lane = MemoryLane(self.ledger, self.clock)
        self.book = MemoryBook(lane)
        self.events: list[tuple[Any, ...]] = []
        lane.register("outbox.add", self.events.append)
        every: dict[str, Rail] = {rail.traits.name: rail for rail in rails}
        every["book"] = BookRail(self.ledger, payer=chart.payer, clearing=chart.rail)
        self.desk = Desk(
            self.clock, self.ids, lane, self.ledger, self.book, every, FixedOrder(), settings or PaySettings()
        )
        self.merchant, self.payer = MerchantId(self.ids.new()), PayerId(self.ids.new())
        self.card = Method(InstrumentId(self.ids.new()), "card", "Visa", "tok_visa")
        self.balance = Method(InstrumentId(self.ids.new()), "balance", "Balance", "")

    async def open(self, minor: int = 100_000) -> None:
        world, own = chart.world("CNY"), chart.payer(self.payer, "CNY")
        await self.ledger.open_accounts([world, own])
        if minor:
            opening = NewTransfer(TransferId(self.ids.new()), world.number, own.number, "CNY", minor)
            await self.ledger.post([opening])

    def wants(self, minor: int, *methods: Method, **more: Any) -> NewPayment:
        return NewPayment(self.merchant, self.payer, Money(CNY, minor), methods or (self.card,), **more)

    def holds(self, code: str) -> int:
        books = self.ledger.book.accounts.get(chart.number(code))
        return 0 if books is None else books.credits_posted - books.debits_posted

    def merchant_holds(self) -> int:
        return self.holds(chart.merchant(self.merchant, "CNY").code)

    def payer_holds(self) -> int:
        return self.holds(chart.payer(self.payer, "CNY").code)

    def announced(self) -> list[str]:
        return [row[1] for row in self.events]

    async def rest(self, *, for_s: float = 20_000) -> None:
        """Run the worker until nothing is due any more."""
        end = self.clock.monotonic_s() + for_s
        while any(payment.next_step_at is not None for payment in self.book.standing()):
            assert self.clock.monotonic_s() < end, "something is due for ever"
            await reconcile.resolve_due(self.desk)
            due = self.book._due[0][0] if self.book._due else self.clock.now()
            await self.clock.sleep(max(0.1, (due - self.clock.now()).total_seconds()))


def play(scene: Callable[[Shop], Awaitable[T]], *rails: Scripted, settings: PaySettings | None = None) -> T:
    """Play `scene` in a fresh shop on virtual time."""
    loop = VirtualLoop(1)

    async def whole() -> T:
        shop = Shop(loop, *rails, settings=settings)
        await shop.open()
        return await scene(shop)

    return run(whole(), loop)
