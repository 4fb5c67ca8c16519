"""A small world in which payments are made while everything breaks.

Clock, order, network, crashes, all from one seed.

Servers and workers are processes: a crash cancels every task of one at whatever await it stands, and all that
it had in memory is lost. What was committed stays. After the storm everything heals, and the world runs on
until nothing is left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from holdfast.adapters.rails.book import BookRail
from holdfast.base.errors import HoldfastError, OutcomeUnknown, Refused, Unavailable
from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, PaymentId, TransferId
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.memory import MemoryLane, MemoryLedger
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.payments.memory import MemoryBook
from holdfast.domains.payments.model import Method, NewPayment, PaymentState
from holdfast.domains.payments.ports import Order, Rail, RailEvent
from holdfast.domains.payments.rules.routing import Router, RoutingSettings
from holdfast.domains.payments.rules.settings import PaySettings, Rules
from holdfast.drills.virtual_time import VirtualClock, VirtualLoop, run
from holdfast.flows import chart, pay, reconcile
from holdfast.flows.desk import Desk
from holdfast.flows.refund import refund
from tests.sim.invariants import Checker, Violation
from tests.sim.rails import Provider, SimRail, draw_traits, draw_weather

CNY = asset("CNY")
STORM_S = 40.0
DRAIN_S = 5_000.0
SETTINGS = PaySettings(
    answer_within_s=6.0,
    caller_patience_s=1.0,
    deadline_s=20.0,
    lease_s=6.0,
    promise_s=60.0,
    hold_s=50.0,
    call_s_min=0.3,
    live_pauses_s=(0.1, 0.3, 1.0),
    pauses_s=(0.5, 1.0, 3.0, 10.0, 60.0, 600.0),
    resolve_together_max=4,
)


class Process:
    """One process: what it knows in memory, and what it is doing. A crash takes both."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: set[asyncio.Task[None]] = set()
        self.desk = world.desk()

    def do(self, work: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        try:
            await work(self.desk)
        except (Refused, Unavailable, OutcomeUnknown):
            return
        except (HoldfastError, Violation, AssertionError, KeyError, AttributeError, TypeError) as error:
            self._world.failed(error)

    def crash(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        self._tasks.clear()
        self.desk = self._world.desk()

    @property
    def busy(self) -> bool:
        return bool(self._tasks)


class World:
    """One seed's world. `run` lives through it; a `Violation` says which invariant broke."""

    def __init__(self, seed: int, rules: Rules | None = None, *, payments: int = 2) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loop = VirtualLoop(seed)
        self.clock = VirtualClock(self.loop)
        random = self.random
        entropy = Random(seed ^ 0x5EED)
        self.ids = IdSource(lambda: int((self.loop.time() + 1e9) * 1000), entropy.randbytes)
        self.settings = replace(
            SETTINGS,
            rules=rules or Rules(),
            stand_in_limit_minor=random.choice((0, 1000)),
        )
        self.ledger = MemoryLedger(self.clock)
        self.stormy = True
        self._crashing = random.random() < 0.6
        self._db_hurts = random.choice((0.0, 0.0, 0.03))
        self.lane = MemoryLane(self.ledger, self.clock, delay=self._before, after=self._after)
        self.book = MemoryBook(self.lane)
        self.checker = Checker(self)
        self.providers: dict[str, Provider] = {}
        self.rails: dict[str, Rail] = {}
        for name in ("alpha", "beta", "gamma")[: random.choice((2, 2, 3))]:
            traits = draw_traits(name, random)
            provider = Provider(
                traits, self.clock, random, draw_weather(random), self.checker.charged, self._message
            )
            self.providers[name] = provider
            self.rails[name] = SimRail(provider, self.clock, random, self._sending)
        self.rails["book"] = BookRail(self.ledger, payer=chart.payer, clearing=chart.rail)
        self.merchant, self.payer = MerchantId(self.ids.new()), PayerId(self.ids.new())
        self.payments = payments
        self.made: list[PaymentId] = []
        self._failure: BaseException | None = None
        self.servers = [Process(self), Process(self)]
        self.workers = [Process(self), Process(self)]

    def desk(self) -> Desk:
        router = Router(
            RoutingSettings(), Random(self.random.random()), [r.traits for r in self.rails.values()]
        )
        watched = self.checker.watch_router(router)
        return Desk(
            self.clock, self.ids, self.lane, self.ledger, self.book, self.rails, watched, self.settings
        )

    def failed(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def run(self) -> None:
        """Live through it. Raises: `Violation`."""
        run(self._live(), self.loop)

    async def _live(self) -> None:
        world, own = chart.world("CNY"), chart.payer(self.payer, "CNY")
        await self.ledger.open_accounts([world, own])
        opening = NewTransfer(TransferId(self.ids.new()), world.number, own.number, "CNY", 700)
        await self.ledger.post([opening])
        for _ in range(self.payments):
            self.loop.call_later(self.random.uniform(0, 10), self._shop)
        for worker in self.workers:
            worker.do(self._work)
        if self._crashing:
            for _ in range(self.random.randint(1, 5)):
                self.loop.call_later(self.random.uniform(0, STORM_S), self._crash)
        await asyncio.sleep(STORM_S)
        self._heal()
        await self._drain()
        await self._settle_files()
        await self._drain()
        self._raise()
        self.checker.at_rest()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _heal(self) -> None:
        self.stormy = False
        for provider in self.providers.values():
            provider.weather.calm()

    async def _drain(self) -> None:
        """Run on until nothing is due, all that was delayed has arrived, and what was pending is decided."""
        end = self.loop.time() + DRAIN_S
        await asyncio.sleep(90)
        while self.loop.time() < end:
            self._raise()
            for provider in self.providers.values():
                provider.settle_later()
            if not any(server.busy for server in self.servers) and self.checker.nothing_due():
                await asyncio.sleep(5)
                return
            await asyncio.sleep(20)

    async def _settle_files(self) -> None:
        """Each provider hands out its file; every attempt is long over by then."""
        begin = self.clock.now().replace(year=2025)
        for name, provider in self.providers.items():
            await reconcile.settle_from_file(
                self.servers[0].desk, name, provider.rows, since=begin, until=self.clock.now()
            )

    def _shop(self) -> None:
        random = self.random
        card = Method(InstrumentId(self.ids.new()), "card", "Visa", "tok")
        balance = Method(InstrumentId(self.ids.new()), "balance", "Balance", "")
        methods = random.choice(((card,), (card,), (card, balance), (balance, card)))
        absorb = random.random() < 0.25
        manual = not absorb and random.random() < 0.2
        asked = NewPayment(
            self.merchant,
            self.payer,
            Money(CNY, random.choice((100, 300, 500, 800))),
            methods,
            "manual" if manual else "automatic",
            "absorb" if absorb else "direct",
        )
        id_ = PaymentId(self.ids.new())
        self.made.append(id_)
        server = random.choice(self.servers)

        async def work(desk: Desk) -> None:
            payment = await pay.create(desk, asked, id=id_)
            await self._afterwards(desk, id_, payment.state)

        server.do(work)
        if random.random() < 0.15:
            self.loop.call_later(random.uniform(0, 15), self._ask, lambda desk: pay.cancel(desk, id_))
        refund_at = random.uniform(1, 35)
        for _ in range(random.choice((0, 0, 1, 2, 3))):
            minor = random.choice((None, 60, 100, 300))
            at = refund_at + random.choice((0.0, 0.001, 0.01, 5.0))
            self.loop.call_later(at, self._ask, lambda desk, m=minor: refund(desk, id_, m))

    async def _afterwards(self, desk: Desk, id_: PaymentId, state: PaymentState) -> None:
        if state is PaymentState.AUTHORIZED and self.random.random() < 0.8:
            await pay.capture(desk, id_, self.random.choice((None, 50)))

    def _ask(self, what: Callable[[Desk], Awaitable[object]]) -> None:
        async def work(desk: Desk) -> None:
            await what(desk)

        self.random.choice(self.servers).do(work)

    async def _work(self, desk: Desk) -> None:
        while True:
            with suppress(Unavailable, OutcomeUnknown):
                await reconcile.resolve_due(desk, limit=8)
            calm = not self.stormy
            await asyncio.sleep(self.random.uniform(20, 60) if calm else self.random.uniform(0.2, 1.5))

    def _crash(self) -> None:
        process = self.random.choice(self.servers + self.workers)
        process.crash()
        if process in self.workers:
            process.do(self._work)

    def _message(self, event: RailEvent) -> None:
        """A provider's message: late, perhaps twice, in any order."""
        hurt = self.random.random() < self.providers[event.rail].weather.hurt_messages
        self.loop.call_later(self.random.uniform(0, 30 if hurt else 0.3), self._deliver, event)
        if hurt:
            self.loop.call_later(self.random.uniform(0, 30), self._deliver, event)

    def _deliver(self, event: RailEvent) -> None:
        self._ask(lambda desk: reconcile.on_rail_event(desk, event.rail, event))

    def _sending(self, rail: str, order: Order) -> None:
        self.checker.sending(rail, order)
        if self._crashing and self.stormy and self.random.random() < 0.2:
            self.loop.call_later(self.random.uniform(0.0, 0.1), self._crash)

    async def _before(self) -> None:
        if self.stormy:
            if self.random.random() < self._db_hurts:
                raise Unavailable
            await asyncio.sleep(self.random.choice((0.0, 0.001, 0.02)))

    async def _after(self) -> None:
        self.checker.after_commit()
        if self.stormy:
            await asyncio.sleep(self.random.choice((0.0, 0.0, 0.005)))
            if self.random.random() < self._db_hurts / 3:
                raise OutcomeUnknown
