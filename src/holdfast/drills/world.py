"""Holdfast itself under a drill: the real flows, ledger rules, book and router, on virtual time before simulated rails.

Nothing is replaced but what lies outside (providers, clock, disk): `flows.pay` opens and carries out every payment,
`flows.reconcile` resolves what is in doubt, `Router` decides from evidence. One process serves all payers; workers beside it do
what the deployed worker does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, cast
from uuid import UUID

from holdfast.base.ids import IdSource, InstrumentId, MerchantId, PayerId, TransferId
from holdfast.base.money import Money, asset
from holdfast.domains.ledger.memory import MemoryLane, MemoryLedger
from holdfast.domains.ledger.model import NewAccount, NewTransfer
from holdfast.domains.payments.memory import MemoryBook
from holdfast.domains.payments.model import Case, Method, NewPayment, PaymentState
from holdfast.domains.payments.ports import RailEvent
from holdfast.domains.payments.rules.routing import Router, RoutingSettings
from holdfast.domains.payments.rules.settings import PaySettings
from holdfast.drills.draw import NEVER, Draw
from holdfast.drills.judge import FirstTry, Seen
from holdfast.drills.rails import SimulatedRail, moment, token
from holdfast.drills.reading import BALANCE
from holdfast.drills.virtual_time import VirtualClock, VirtualLoop, run
from holdfast.flows import chart
from holdfast.flows.desk import Desk
from holdfast.flows.pay import create
from holdfast.flows.reconcile import on_rail_event, resolve_due
from holdfast.platform.outbox import ADD

WORKERS: Final = 4
RESOLVE_LIMIT: Final = 100
RESOLVE_EVERY_S: Final = 0.25
DRAIN_EVERY_S: Final = 1.0
OPEN_BATCH: Final = 4096

Progress = Callable[[float], None]
"""Told the share of the drill that is over, 0 to 1."""


@dataclass(slots=True)
class HoldfastRun:
    """What Holdfast made of the traffic, with everything that an auditor needs.

    `done_s`: when each payment was announced as succeeded, `NEVER` if it was not. `ended_s`: when the last payment in
    doubt, or the last charge to be given back, was settled; `NEVER` if something still was open when the drill ended.
    """

    done_s: list[float]
    cases: list[Case]
    rails: dict[str, SimulatedRail]
    ledger: MemoryLedger
    payers: list[PayerId]
    merchant: MerchantId
    opened_minor: dict[int, int]
    announced: dict[str, int]
    tries: list[FirstTry]
    seen: dict[str, list[Seen]]
    in_doubt: list[int]
    failed_tasks: list[str]
    ended_s: float = NEVER


@dataclass(slots=True)
class _World:
    """The wiring of one run."""

    draw: Draw
    loop: VirtualLoop
    desk: Desk
    book: MemoryBook
    rails: dict[str, SimulatedRail]
    result: HoldfastRun
    ids: IdSource
    progress: Progress
    by_subject: dict[str, int] = field(default_factory=dict)
    over: bool = False


def run_holdfast(draw: Draw, progress: Progress = lambda _share: None) -> HoldfastRun:
    """Send all the traffic through Holdfast and return what became of it, after everything late has arrived."""
    loop = VirtualLoop(shuffle=False)
    world = _wire(draw, loop, progress)
    run(_main(world), loop)
    world.result.cases = world.book.everything()
    return world.result


def _wire(draw: Draw, loop: VirtualLoop, progress: Progress) -> _World:
    scenario = draw.scenario
    clock = VirtualClock(loop)
    chances = Random(draw.seed)
    ids = IdSource(lambda: int(clock.now().timestamp() * 1000), chances.randbytes)
    ledger = MemoryLedger(clock)
    lane = MemoryLane(ledger, clock)
    book = MemoryBook(lane)
    rails = {plan.name: SimulatedRail(draw, plan, loop) for plan in scenario.rails}
    router = Router(RoutingSettings(), Random(draw.seed + 1), [rail.traits for rail in rails.values()])
    settings = PaySettings(answer_within_s=scenario.deadline_s, deadline_s=scenario.deadline_s)
    desk = Desk(clock, ids, lane, ledger, book, rails, router, settings)
    result = HoldfastRun(
        done_s=[NEVER] * len(draw.arrive_s), cases=[], rails=rails, ledger=ledger, payers=[],
        merchant=MerchantId(ids.new()), opened_minor={}, announced={}, tries=[],
        seen={name: [] for name in rails}, in_doubt=[], failed_tasks=[],
    )  # fmt: skip
    world = _World(draw, loop, desk, book, rails, result, ids, progress)
    lane.register(ADD.name, lambda row: _announced(world, row))
    for rail in rails.values():
        rail.listener = lambda name, event: _heard(desk, name, event)
        rail.first_try = lambda name, payment, at: _tried(world, name, payment, at)
    return world


async def _heard(desk: Desk, rail: str, event: RailEvent) -> None:
    await on_rail_event(desk, rail, event)


def _announced(world: _World, row: tuple[object, ...]) -> None:
    """Note when a payment was announced as succeeded, and how often."""
    kind, subject = cast("str", row[1]), cast("str", row[3])
    if kind == "payment.succeeded":
        world.result.announced[subject] = world.result.announced.get(subject, 0) + 1
        world.by_subject.setdefault(subject, len(world.by_subject))
        world.result.announced_at[subject] = world.loop.time()
