"""The worlds that routing is measured in, and one run of the real router through one of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final

from holdfast.domains.payments.ports import FenceClass
from holdfast.domains.payments.rules.routing import (
    BulkheadSettings,
    Offer,
    RailOutcome,
    Router,
    RoutingSettings,
    Ticket,
)


@dataclass(frozen=True, slots=True)
class World:
    """Rails whose success rates `rows` change at the transactions `changes`."""

    name: str
    transactions: int
    changes: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]
    counts_regret: bool

    def regret(self, result: float) -> float:
        """Return `result` as what is lost against always knowing the best rail: lower is better."""
        if self.counts_regret:
            return result
        return fmean(max(self.row(t)) for t in range(self.transactions)) - result

    def row(self, t: int) -> tuple[float, ...]:
        return self.rows[sum(t >= change for change in self.changes)]


_EVERY_1000: Final = (1000, 2000, 3000, 4000)
PROBLEM_1: Final = World(
    "problem 1",
    5000,
    _EVERY_1000,
    ((0.3, 0.5, 0.9), (0.3, 0.2, 0.9), (0.3, 0.2, 0.1), (0.7, 0.2, 0.1), (0.7, 0.5, 0.1)),
    counts_regret=True,
)
PROBLEM_2: Final = World(
    "problem 2",
    5000,
    _EVERY_1000,
    ((0.4, 0.5, 0.9), (0.5, 0.4, 0.7), (0.6, 0.3, 0.5), (0.7, 0.2, 0.3), (0.8, 0.1, 0.1)),
    counts_regret=True,
)
PAYMENTS: Final = World(
    "payments",
    20_000,
    (5000, 8000, 11_000, 15_000),
    ((0.90, 0.88, 0.85), (0.86, 0.89, 0.85), (0.02, 0.88, 0.85), (0.91, 0.70, 0.86), (0.88, 0.90, 0.87)),
    counts_regret=False,
)
WORLDS: Final = (PROBLEM_1, PROBLEM_2, PAYMENTS)
DELAYS: Final = (0, 100)
PUBLISHED: Final = {
    (PROBLEM_1.name, 0): 114.0,
    (PROBLEM_2.name, 0): 113.6,
    (PAYMENTS.name, 0): 0.8847,
    (PAYMENTS.name, 100): 0.8820,
}
"""The best line measured elsewhere: regret, lower is better, for the problems; success share for payments."""

PER_S: Final = 100.0
"""Transactions a second, where a policy cares for time (ours does: breakers, starvation)."""
LATENCY_S: Final = 0.1
_CORRECTED_AFTER: Final = 100
RAILS: Final = ("a", "b", "c")


def run_router(world: World, delay: int, seed: int, *, unknown_share: float = 0.0) -> float:
    """Run the real router through `world` once. Return the regret, or the success share of payments.

    With `unknown_share`, so many outcomes are unknown at first, and corrected 100 transactions later.
    """
    luck, router = Random(f"luck {seed}"), make_router(seed, delay)
    offers = [Offer(rail, "card", FenceClass.F4) for rail in RAILS]
    due: deque[tuple[Ticket, RailOutcome]] = deque()
    late: deque[tuple[int, Ticket, RailOutcome]] = deque()
    total = regret = 0.0
    for t in range(world.transactions):
        now_s, row = t / PER_S, world.row(t)
        if len(due) > delay:
            router.finished(*due.popleft(), latency_s=LATENCY_S, now_s=now_s)
        while late and late[0][0] <= t:
            router.corrected(*late.popleft()[1:], now_s=now_s)
        arm, ticket = next(
            (place, ticket)
            for place in router.rank(offers, now_s=now_s).order
            if (ticket := router.started(RAILS[place], now_s=now_s))
        )
        truth = RailOutcome.OK if luck.random() < row[arm] else RailOutcome.FAILED
        said = RailOutcome.UNKNOWN if luck.random() < unknown_share else truth
        due.append((ticket, said))
        if said is RailOutcome.UNKNOWN:
            late.append((t + _CORRECTED_AFTER, ticket, truth))
        total += row[arm]
        regret += max(row) - row[arm]
    return regret if world.counts_regret else total / world.transactions


def make_router(seed: int, delay: int) -> Router:
    room = BulkheadSettings(floor=delay + 4, ceiling=2 * delay + 64)
    return Router(RoutingSettings(bulkhead=room), Random(f"router {seed}"))
