"""Payments under everything that can go wrong, by seed.

A failing seed is printed; `World(seed).run()` lives through it again.

`make test` explores `SEEDS` worlds; `make soak` explores `SOAK_SEEDS`, on every core. The environment
variable `HOLDFAST_SIM_FIRST_SEED` moves the range, so that each night explores new worlds.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from holdfast.base.errors import Broken
from tests.sim.invariants import Violation
from tests.sim.mutants import EVERY, without
from tests.sim.world import World

SEEDS = 2_000
SOAK_SEEDS = 100_000
ONCE_BROKEN = (53_998,)
"""A hold on the balance, cancelled while captured: the account for what is in doubt was not open."""
CHUNK = 250
MUTANT_SEEDS = 3_000
FIRST = int(os.environ.get("HOLDFAST_SIM_FIRST_SEED", "0"))


def live_through(first: int, count: int) -> list[str]:
    """Live through worlds and return what broke, with the seed."""
    broken = []
    for seed in range(first, first + count):
        try:
            World(seed).run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what is wanted
            broken.append(f"seed {seed}: {type(error).__name__}: {error}")
    return broken


def explore(seeds: int) -> list[str]:
    starts = range(FIRST, FIRST + seeds, CHUNK)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [line for found in pool.map(live_through, starts, [CHUNK] * len(starts)) for line in found]


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_a_long_search_found_stays_mended(seed: int) -> None:
    World(seed).run()


def test_no_order_of_events_breaks_an_invariant() -> None:
    broken = explore(SEEDS)
    assert not broken, "\n".join(broken[:20])


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_no_order_of_events_breaks_an_invariant_in_many_worlds() -> None:
    broken = explore(SOAK_SEEDS)
    assert not broken, "\n".join(broken[:20])


@pytest.mark.parametrize("rule", EVERY)
def test_taking_away_a_rule_is_noticed(rule: str) -> None:
    for seed in range(MUTANT_SEEDS):
        try:
            World(seed, without(rule)).run()
        except (Violation, Broken) as error:
            print(f"without {rule}, seed {seed}: {error}")
            return
    pytest.fail(f"{MUTANT_SEEDS} worlds without {rule} looked fine")


def test_the_same_seed_lives_the_same_life() -> None:
    def journal(seed: int) -> list[object]:
        world = World(seed)
        world.run()
        return [row for rows in world.book._journal.values() for row in rows]

    assert journal(7) == journal(7)
    assert journal(7) != journal(8)


def test_worlds_are_worth_living_through() -> None:
    """The weather is bad enough.

    Every state of a payment and of an attempt is met, and so is every kind of trouble.
    """
    met: set[str] = set()
    for seed in range(300):
        world = World(seed)
        world.run()
        for case in world.book.everything():
            met.add(f"payment {case.payment.state.value}")
            met |= {f"attempt {attempt.state.value}" for attempt in case.attempts}
            met |= {f"refund {refund.state}" for refund in case.refunds}
            met |= {entry.event for entry in world.book._journal[case.payment.id]}
    wanted = {
        "payment succeeded",
        "payment failed",
        "payment canceled",
        "attempt returned",
        "attempt canceled",
    }
    wanted |= {
        "attempt declined",
        "attempt captured",
        "refund succeeded",
        "late_money",
        "given_back",
        "recovered",
    }
    wanted |= {
        "stood_in",
        "funded",
        "held",
        "alert",
        "paid_from_balance",
        "cancel_asked",
        "capture_asked",
        "pending",
    }
    assert wanted <= met, sorted(wanted - met)
