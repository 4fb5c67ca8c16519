"""The storm of the simulation, on a real database: real commits, real clock, processes that die at any await.

The world draws from a seed, but the order of events is the machine's own; a failure prints the seed and the
payment's journal.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import pytest

from holdfast.adapters.rails.book import BookRail
from holdfast.base.clock import SystemClock
from holdfast.base.errors import OutcomeUnknown, Refused, Unavailable
from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, PaymentId, TransferId
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.payments.model import Case, Method, NewPayment
from holdfast.domains.payments.ports import Order, Rail, RailEvent
from holdfast.domains.payments.rules.lifecycle import FINAL
from holdfast.domains.payments.rules.routing import Router, RoutingSettings
from holdfast.domains.payments.rules.settings import PaySettings
from holdfast.domains.payments.store import PostgresBook
from holdfast.flows import chart, pay, reconcile
from holdfast.flows.desk import Desk
from holdfast.flows.refund import refund
from holdfast.platform.db import Database
from tests.sim.invariants import AtRest, hold
from tests.sim.rails import Provider, SimRail, Weather, draw_traits

CNY = asset("CNY")
STORM_S = 4.0
REST_WITHIN_S = 60.0
SETTINGS = PaySettings(
    answer_within_s=3.0,
    caller_patience_s=0.5,
    deadline_s=6.0,
    lease_s=3.0,
    promise_s=8.0,
    hold_s=8.0,
    call_s_min=0.2,
    live_pauses_s=(0.05, 0.1, 0.3),
    pauses_s=(0.1, 0.3, 0.5, 1.0),
    stand_in_limit_minor=500,
)


class Storm:
    """A merchant, payments, rails behind a bad network, servers and workers that die.

    The database is real.
    """

    def __init__(self, seed: int, database: Database, payments: int) -> None:
        self.random = Random(seed)
        self.database = database
        self.clock = SystemClock()
        self.ids = IdSource(lambda: int(time.time() * 1000), os.urandom)
        self.book = PostgresBook(database)
        self.seat = Seat(database, self.clock)
        self.ledger = PostgresLedger(database, self.seat)
        self.merchant, self.payer = MerchantId(self.ids.new()), PayerId(self.ids.new())
        self.payments = payments
        self.charges: list[tuple[str, str, int]] = []
        self.sent: set[tuple[str, str]] = set()
        self.failure: BaseException | None = None
        self.providers: dict[str, Provider] = {}
        self.rails: dict[str, Rail] = {"book": BookRail(self.ledger, payer=chart.payer, clearing=chart.rail)}
        for name in ("alpha", "beta", "gamma"):
            traits = draw_traits(name, self.random)
            if traits.expires_s is not None:
                traits = replace(traits, expires_s=4.0)
            provider = Provider(
                traits, self.clock, self.random, self._weather(), self._charged, self._message
            )
            self.providers[name] = provider
            self.rails[name] = SimRail(provider, self.clock, self.random, self._sending)
        self.stormy = True
        self.processes: list[set[asyncio.Task[None]]] = [set() for _ in range(4)]
        self.desks = [self._desk() for _ in self.processes]

    def _weather(self) -> Weather:
        force = self.random.choice((0.1, 0.3))
        return Weather(force / 2, force / 2, force, force, force / 3, force / 3, 0.2, 0.05, force, 2.0)

    def _desk(self) -> Desk:
        router = Router(
            RoutingSettings(), Random(self.random.random()), [r.traits for r in self.rails.values()]
        )
        return Desk(self.clock, self.ids, self.seat, self.ledger, self.book, self.rails, router, SETTINGS)

    def _charged(self, rail: str, reference: str) -> None:
        self.charges.append((rail, reference, self.providers[rail].records[reference].net_minor))

    def _sending(self, rail: str, order: Order) -> None:
        self.sent.add((rail, order.key))

    def _message(self, event: RailEvent) -> None:
        for _ in range(self.random.choice((1, 1, 2))):
            asyncio.get_running_loop().call_later(self.random.uniform(0, 1.5), self._deliver, event)

    def _deliver(self, event: RailEvent) -> None:
        self.start(lambda desk: reconcile.on_rail_event(desk, event.rail, event))

    def start(self, work: Callable[[Desk], Coroutine[Any, Any, object]], process: int | None = None) -> None:
        which = self.random.randrange(2) if process is None else process
        tasks = self.processes[which]

        async def guarded() -> None:
            try:
                await work(self.desks[which])
            except (Refused, Unavailable, OutcomeUnknown):
                return
            except Exception as error:  # noqa: BLE001 - raised in the test
                self.failure = self.failure or error

        task = asyncio.get_running_loop().create_task(guarded())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _crash(self, which: int) -> None:
        for task in list(self.processes[which]):
            task.cancel()
        self.desks[which] = self._desk()
        if which >= 2:
            self.start(self._work, which)

    async def _work(self, desk: Desk) -> None:
        while True:
            with suppress(Unavailable, OutcomeUnknown):
                if not await reconcile.resolve_due(desk, limit=20):
                    await asyncio.sleep(0.05)

    def _shop(self) -> None:
        random = self.random
        card = Method(InstrumentId(self.ids.new()), "card", "Visa", "tok")
        balance = Method(InstrumentId(self.ids.new()), "balance", "Balance", "")
        absorb = random.random() < 0.25
        manual = not absorb and random.random() < 0.2
        methods = random.choice(((card,), (card,), (card, balance), (balance, card)))
        amount = Money(CNY, random.choice((100, 300, 500)))
        asked = NewPayment(
            self.merchant,
            self.payer,
            amount,
            methods,
            "manual" if manual else "automatic",
            "absorb" if absorb else "direct",
        )
        id_ = PaymentId(self.ids.new())

        async def work(desk: Desk) -> None:
            payment = await pay.create(desk, asked, id=id_)
            if payment.state == "authorized":
                await pay.capture(desk, id_, random.choice((None, 50)))

        self.start(work)
        later = asyncio.get_running_loop().call_later
        if random.random() < 0.1:
            later(random.uniform(0, 2), self.start, lambda desk: pay.cancel(desk, id_))
        for minor in random.choice(((), (), (60,), (None, 100))):
            later(random.uniform(0.5, 4), self.start, lambda desk, m=minor: refund(desk, id_, m))

    async def live(self) -> None:
        """Live through the storm, heal, and wait until nothing is due."""
        world, own = chart.world("CNY"), chart.payer(self.payer, "CNY")
        await self.ledger.open_accounts([world, own])
        opening = NewTransfer(TransferId(self.ids.new()), world.number, own.number, "CNY", 2_000)
        await self.ledger.post([opening])
        later = asyncio.get_running_loop().call_later
        for _ in range(self.payments):
            later(self.random.uniform(0, STORM_S * 0.7), self._shop)
        for _ in range(8):
            later(self.random.uniform(0.2, STORM_S), self._crash, self.random.randrange(4))
        for which in (2, 3):
            self.start(self._work, which)
        await asyncio.sleep(STORM_S)  # The length of the storm, not a wait for something.
        for provider in self.providers.values():
            provider.weather.calm()
        await self._until_rest()
        await self._settle_files()
        await self._until_rest()
        for tasks in self.processes:
            for task in list(tasks):
                task.cancel()
        if self.failure is not None:
            raise self.failure

    async def _until_rest(self) -> None:
        deadline = time.monotonic() + REST_WITHIN_S
        calm = 0
        while calm < 3:
            assert time.monotonic() < deadline, await self._what_is_due()
            if self.failure is not None:
                raise self.failure
            for provider in self.providers.values():
                provider.settle_later()
            await asyncio.sleep(0.25)
            busy = self.processes[0] or self.processes[1] or await self._due()
            calm = 0 if busy else calm + 1

    async def _what_is_due(self) -> str:
        lines = ["something is due for ever"]
        for case in await self.cases():
            if case.payment.next_step_at is not None:
                lines.append(f"{case.payment.state} {[(a.rail, a.state.value) for a in case.attempts]}")
                lines += [
                    f"  {entry.at:%S.%f} {entry.words}" for entry in await self.book.journal(case.payment.id)
                ][-25:]
        busy = [str(task) for tasks in self.processes[:2] for task in tasks]
        return "\n".join(lines + busy)[:8000]

    async def _due(self) -> int:
        """Payments that are still to be worked on, but for those that only the settlement file can end."""
        due = 0
        for case in await self.cases():
            if case.payment.next_step_at is None:
                continue
            only_waits = case.payment.state in FINAL or case.payment.state == "pending"
            told = "alert" in {entry.event for entry in await self.book.journal(case.payment.id)}
            due += not (only_waits and told)
        return due

    async def _settle_files(self) -> None:
        since = self.clock.now().replace(year=2025)
        for name, provider in self.providers.items():
            await reconcile.settle_from_file(
                self.desks[0], name, provider.rows, since=since, until=self.clock.now()
            )

    async def cases(self) -> list[Case]:
        found = await self.book.listing(self.merchant, limit=10_000)
        cases = [await self.book.case(payment.id) for payment in found]
        return [case for case in cases if case is not None]

    async def check(self) -> None:
        """Check the invariants from the tables and the providers' own books."""
        cases = await self.cases()
        async with self.database.connection() as connection:
            sums = await (await connection.execute(_BALANCES)).fetchall()
            events = await (await connection.execute("select subject, type from outbox.events")).fetchall()
            sends = await (await connection.execute(_SENDS)).fetchall()
        balances = {code: int(net) for code, net in sums}
        journal: dict[UUID, set[str]] = {
            c.payment.id: {e.event for e in await self.book.journal(c.payment.id)} for c in cases
        }
        told = [(str(subject), str(type_)) for subject, type_ in events]
        AtRest(
            cases, journal, told, lambda code: _holds(balances, code), self.providers, self.merchant
        ).check()
        self._i1(cases)
        recorded = {(rail, key) for rail, key, *_ in sends}
        hold(self.sent <= recorded, "I7", f"sent without a record: {self.sent - recorded}")
        operations: dict[str, tuple[object, ...]] = {}
        for _, key, *operation in sends:
            hold(
                operations.setdefault(key, tuple(operation)) == tuple(operation),
                "I6",
                f"{key} stands for two",
            )
        for case in cases:
            given = sum(r.amount.amount_minor for r in case.refunds if r.state != "failed")
            hold(
                given <= case.payment.captured_minor,
                "I8",
                f"{given} refunded of {case.payment.captured_minor}",
            )

    def _i1(self, cases: list[Case]) -> None:
        """At no instant did two charges of one payment stand.

        The providers' books, replayed in their order.
        """
        owner = {a.reference: c.payment for c in cases for a in c.attempts}
        standing: dict[PaymentId, dict[str, int]] = {}
        for _, reference, net in self.charges:
            payment = owner[reference]
            now = standing.setdefault(payment.id, {})
            now[reference] = net
            if payment.asked.funding == "direct":
                charges = [each for each in now.values() if each > 0]
                hold(len(charges) <= 1, "I1", f"{len(charges)} charges stood at once")


_BALANCES = """select a.code, sum(case when t.credit = a.number then t.amount else -t.amount end)::bigint
               from ledger.accounts a join ledger.transfers t on a.number in (t.debit, t.credit)
               where t.kind in (0, 2) group by a.code"""
_SENDS = """select a.rail, s.key, s.attempt_id, s.op, s.payload_hash
            from payments.sends s join payments.attempts a on a.id = s.attempt_id"""


def _holds(balances: dict[str, int], code: str | None) -> int:
    return sum(balances.values()) if code is None else balances.get(code, 0)


async def storm(seed: int, database: Database, payments: int) -> None:
    print(f"seed {seed}")
    world = Storm(seed, database, payments)
    try:
        await world.live()
        await world.check()
    finally:
        await world.seat.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_on_a_real_database_breaks_no_invariant(seed: int, database: Database) -> None:
    await storm(seed, database, payments=40)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
async def test_many_storms_on_a_real_database_break_no_invariant(seed: int, database: Database) -> None:
    await storm(seed, database, payments=80)
