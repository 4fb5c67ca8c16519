"""Holdfast itself under a drill.

The real flows, ledger rules, book and router, on virtual time before simulated rails.

Nothing is replaced but what lies outside (providers, clock, disk): `flows.pay` opens and carries out every
payment, `flows.reconcile` resolves what is in doubt, `Router` decides from evidence. One process serves all
payers; workers beside it do what the deployed worker does.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, cast

import msgspec

from holdfast.adapters.rails.book import BookRail
from holdfast.base.errors import HoldfastError
from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, PaymentId, TransferId, public
from holdfast.base.money import Money, asset
from holdfast.base.values import quick
from holdfast.domains.ledger.memory import MemoryLane, MemoryLedger
from holdfast.domains.ledger.model import NewAccount, NewTransfer
from holdfast.domains.payments.memory import MemoryBook, Values
from holdfast.domains.payments.model import Method, NewPayment, PaymentState
from holdfast.domains.payments.ports import Rail, RailEvent
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL as WALLET
from holdfast.domains.payments.rules.routing import Router, RoutingSettings
from holdfast.domains.payments.rules.settings import PaySettings
from holdfast.drills.draw import NEVER, Draw
from holdfast.drills.judge import FirstTry, Seen
from holdfast.drills.rails import SimulatedRail, moment, token
from holdfast.drills.reading import BALANCE
from holdfast.drills.virtual_time import EPOCH, VirtualClock, VirtualLoop, run
from holdfast.flows import chart
from holdfast.flows.desk import Desk
from holdfast.flows.pay import create
from holdfast.flows.reconcile import on_rail_event, resolve_due
from holdfast.platform.outbox import ADD

WORKERS: Final = 4
RESOLVE_LIMIT: Final = 100
RESOLVE_EVERY_S: Final = 0.25
DRAIN_EVERY_S: Final = 2.0
OPEN_BATCH: Final = 1024
EPOCH_MS: Final = int(EPOCH.timestamp() * 1000)

Progress = Callable[[float], None]
"""Told the share of the drill that is over, 0 to 1."""


@quick
@dataclass(frozen=True, slots=True)
class Standing:
    """How a payment stands in the end; `open` while there is still something to do or to learn about it."""

    state: PaymentState
    open: bool


@dataclass(slots=True)
class HoldfastRun:
    """What Holdfast made of the traffic, with everything that an auditor needs.

    `done_s`: when each payment was announced as succeeded, `NEVER` if it was not. `announced`: how often each
    was. `in_doubt`: how many payments were waiting for their end, by second. `ended_s`: when the last payment
    in doubt, or the last charge to be given back, was settled; `NEVER` if something was still open when the
    drill ended.
    """

    rails: dict[str, SimulatedRail]
    ledger: MemoryLedger
    merchant: MerchantId
    payers: list[PayerId]
    opened_minor: list[int]
    done_s: list[float]
    announced: list[int]
    tries: list[FirstTry] = field(default_factory=list)
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    in_doubt: list[int] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    states: dict[int, Standing] = field(default_factory=dict)
    ended_s: float = NEVER


class _Facts(msgspec.Struct):
    """What a drill reads of an announcement."""

    reference: str


_FACTS: Final = msgspec.json.Decoder(_Facts)


class World:
    """The wiring of one run, and the people in it: payers, workers, an observer."""

    def __init__(self, draw: Draw, loop: VirtualLoop, progress: Progress) -> None:
        scenario = draw.scenario
        self.draw = draw
        self.loop = loop
        self.progress = progress
        self.clock = VirtualClock(loop)
        self.ids = IdSource(lambda: EPOCH_MS + int(loop.now_s * 1000), _chances(draw.seed).randbytes)
        ledger = MemoryLedger(self.clock)
        lane = MemoryLane(ledger, self.clock)
        self.book = MemoryBook(lane)
        rails = {plan.name: SimulatedRail(draw, plan, loop) for plan in scenario.rails}
        wallet = BookRail(ledger, payer=chart.payer, clearing=chart.rail)
        traits = [wallet.traits, *(rail.traits for rail in rails.values())]
        self.router = Router(RoutingSettings(), _chances(draw.seed + 1), traits)
        settings = PaySettings(answer_within_s=scenario.deadline_s, deadline_s=scenario.deadline_s)
        ways: dict[str, Rail] = {**rails, WALLET: wallet}
        self.desk = Desk(
            self.clock, self.ids, lane, ledger, self.book, ways, self.router, settings, writer=Values()
        )
        count = len(draw.arrive_s)
        self.asset = asset(scenario.asset)
        self.result = HoldfastRun(
            rails,
            ledger,
            MerchantId(self.ids.new()),
            [PayerId(self.ids.new()) for _ in range(count)],
            [0] * count,
            [NEVER] * count,
            [0] * count,
            seen={name: [] for name in rails},
        )
        self.payments: list[PaymentId] = [PaymentId(self.ids.new()) for _ in range(count)]
        self._tried = bytearray(count)
        self._serving = 0
        self._at_tills: set[asyncio.Task[None]] = set()
        self._fell: BaseException | None = None
        self._over = False
        lane.register(ADD.name, self._announced)
        for rail in rails.values():
            rail.listener = self._heard
            rail.watcher = self._sent

    async def main(self) -> None:
        """Open the accounts, serve every payer, go on until nothing is open or time is over."""
        await self._open_accounts()
        helpers = [self.loop.create_task(self._work()) for _ in range(WORKERS)]
        helpers.append(self.loop.create_task(self._observe()))
        for helper in helpers:
            helper.add_done_callback(self._served)
        for payment, at in enumerate(self.draw.arrive_s):
            wait_s = at - self.loop.time()
            if wait_s > 0:
                await self.loop.sleep(wait_s)
            task = self.loop.create_task(self._serve(payment))
            self._at_tills.add(task)
            task.add_done_callback(self._served)
            if self._fell is not None:
                raise self._fell
        while self._at_tills:
            await asyncio.wait(self._at_tills)
        await self._drain()
        if self._fell is not None:
            raise self._fell
        self._over = True
        for helper in helpers:
            helper.cancel()

    async def _open_accounts(self) -> None:
        """Open the accounts of the shop and the rails, and those of payers whose balance has money, with it.

        Whoever else pays is met when they do, as in life.
        """
        code = self.asset.code
        common = [
            chart.merchant(self.result.merchant, code),
            chart.world(code),
            chart.in_doubt(code),
            chart.fees(code),
        ]
        ledger = self.result.ledger
        names = [*self.result.rails, WALLET]
        await self._open([*common, *(chart.rail(name, code) for name in names)])
        world = chart.world(code).number
        for start in range(0, len(self.result.payers), OPEN_BATCH):
            span = range(start, min(start + OPEN_BATCH, len(self.result.payers)))
            gifts = [i for i in span if BALANCE in self.draw.methods(i) and self.draw.funds(i, BALANCE)]
            await self._open([chart.payer(self.result.payers[i], code) for i in gifts])
            for i in gifts:
                self.result.opened_minor[i] = self.draw.amount_minor[i]
            await ledger.post(
                [
                    NewTransfer(
                        TransferId(self.ids.new()),
                        world,
                        chart.payer(self.result.payers[i], code).number,
                        code,
                        self.draw.amount_minor[i],
                    )
                    for i in gifts
                ]
            )

    async def _open(self, accounts: list[NewAccount]) -> None:
        await self.result.ledger.open_accounts(accounts)
        self.desk.opened.update(account.number for account in accounts)

    def _asked(self, payment: int) -> NewPayment:
        methods = tuple(
            Method(InstrumentId(self.ids.new()), kind, kind, self._token(payment, kind))
            for kind in self.draw.methods(payment)
        )
        scenario = self.draw.scenario
        return NewPayment(
            self.result.merchant,
            self.result.payers[payment],
            Money(self.asset, self.draw.amount_minor[payment]),
            methods,
            funding=scenario.funding,
            deadline_at=moment(self.draw.arrive_s[payment] + scenario.deadline_s),
            reference=str(payment),
        )

    def _served(self, task: asyncio.Task[None]) -> None:
        """A defect of ours in carrying out a payment ends the drill, with its traceback."""
        self._at_tills.discard(task)
        if not task.cancelled():
            self._fell = self._fell or task.exception()

    def _token(self, payment: int, kind: str) -> str:
        return public("pyr", self.result.payers[payment]) if kind == BALANCE else token(payment, kind)

    async def _serve(self, payment: int) -> None:
        """One payer at one till.

        What our own code cannot do is a finding of the drill, and is told by the report.
        """
        self._serving += 1
        try:
            await create(self.desk, self._asked(payment), id=self.payments[payment])
        except HoldfastError as error:
            self.result.crashes.append(f"payment {payment}: {type(error).__name__}: {error.message}")
        finally:
            self._serving -= 1

    async def _work(self) -> None:
        """What the deployed worker does: resolve what is due, for ever."""
        while True:
            try:
                done = await resolve_due(self.desk, limit=RESOLVE_LIMIT)
            except HoldfastError as error:
                self.result.crashes.append(f"worker: {type(error).__name__}: {error.message}")
                done = 0
            if not done:
                busy = self.loop.time() < self.draw.scenario.duration_s
                await self.loop.sleep(RESOLVE_EVERY_S if busy else DRAIN_EVERY_S)

    async def _observe(self) -> None:
        """Once a second, note what routing believes and how many payments wait; tell the progress."""
        duration_s = self.draw.scenario.duration_s
        while self.loop.time() <= duration_s + self.draw.scenario.deadline_s:
            now = self.loop.time()
            for health in self.router.health(now):
                moments = self.result.seen.get(health.rail)
                if moments is not None:
                    closed = health.breaker == "closed"
                    moments.append(Seen(now, health.success_rate, health.success_spread, closed))
            self.result.in_doubt.append(self._serving)
            self.progress(min(1.0, now / duration_s))
            await self.loop.sleep(1.0)

    async def _drain(self) -> None:
        """Wait until nothing is open, at most `drain_s`.

        Look at growing intervals, since a look reads every payment.
        """
        until_s = self.draw.scenario.duration_s + self.draw.scenario.drain_s
        pause_s = 5.0
        while self.loop.time() < until_s and self._fell is None:
            if all(payment.next_step_at is None for payment in self.book.standing()):
                self.result.ended_s = self._last_change_s()
                return
            await self.loop.sleep(pause_s)
            pause_s *= 1.5

    def _last_change_s(self) -> float:
        last = max((payment.updated_at for payment in self.book.standing()), default=EPOCH)
        return (last - EPOCH).total_seconds()

    async def _heard(self, rail: str, event: RailEvent) -> None:
        try:
            await on_rail_event(self.desk, rail, event)
        except HoldfastError as error:
            self.result.crashes.append(f"event of {rail}: {type(error).__name__}: {error.message}")

    def _sent(self, rail: str, payment: int, at_s: float) -> None:
        if not self._tried[payment]:
            self._tried[payment] = 1
            elsewhere = len({name for name, _ in self.draw.ways(payment)}) > 1
            self.result.tries.append(FirstTry(at_s, rail, elsewhere))

    def note_how_they_stand(self) -> None:
        """Read from the book how each payment stands in the end."""
        numbers = {id_: payment for payment, id_ in enumerate(self.payments)}
        for payment in self.book.standing():
            stands = Standing(payment.state, payment.next_step_at is not None)
            self.result.states[numbers[payment.id]] = stands

    def _announced(self, row: tuple[object, ...]) -> None:
        if row[1] == "payment.succeeded":
            payment = int(_FACTS.decode(cast("str", row[4])).reference)
            self.result.announced[payment] += 1
            self.result.done_s[payment] = min(self.result.done_s[payment], self.loop.time())


def _chances(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - a drill repeats by seed


def run_holdfast(draw: Draw, progress: Progress = lambda _share: None) -> HoldfastRun:
    """Send all the traffic through Holdfast; return what is left after everything late has arrived."""
    with not_collecting():
        loop = VirtualLoop(shuffle=False)
        world = World(draw, loop, progress)
        run(world.main(), loop)
        world.note_how_they_stand()
    return world.result


@contextmanager
def not_collecting() -> Iterator[None]:
    """Leave cyclic garbage alone: a drill makes little, and looking for it reads millions of objects."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
