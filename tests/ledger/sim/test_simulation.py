"""Election, fencing and forwarding under everything that can go wrong outside, by seed.

A failing seed is printed; `python -m tests.ledger.sim.again SEED` lives through it again and shows it.
`HOLDFAST_SIM_FIRST_SEED` moves the range, so that each night explores new worlds.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256

import pytest

from holdfast.domains.ledger.model import Outcome, UnitOutcome
from tests.ledger.sim.callers import answers_of
from tests.ledger.sim.judge import Judge
from tests.ledger.sim.statements import CommitNote, Head, Segment
from tests.ledger.sim.storm import storm
from tests.ledger.sim.world import World

SEEDS = 200
SOAK_SEEDS = 10_000
CHUNK = 20
FIRST = int(os.environ.get("HOLDFAST_SIM_FIRST_SEED", "0"))
ANSWERS = {"answered done", "answered away", "answered unknown", "answered given up", "answered rejected"}
UNITS = {"unit committed", "unit refused", "unit conflict"}
KINDS = {f"asked {kind}" for kind in ("post", "submit", "columns", "open", "close", "limits", "expire")}
FACTS = {
    "a third epoch",
    "a snapshot",
    "a mark",
    "a segment that is full",
    "an early id",
    "a hold that lapsed",
    "a hold that settled itself",
    "a hold settled for more",
    "a commit of nothing but rows",
}
RARE = {Outcome.BALANCE_OVERFLOW, Outcome.EXCEEDS_DEBITS, Outcome.ASSETS_DIFFER}


def met_in(world: World) -> set[str]:
    """Name what happened in a world, so that a test can see whether worlds are worth living through."""
    met = {f"asked {call.kind}" for call in world.asking.calls}
    met |= {f"answered {call.answer}" for call in world.asking.calls}
    for call in world.asking.calls:
        if isinstance(call.result, UnitOutcome):
            met.add(f"unit {call.result.status}")
        if call.answer == "done" and call.groups and call.kind != "columns":
            met |= {outcome.name for outcome, _ in answers_of(call)}
    tables = world.postgres.tables
    head: Head = tables["head"][1]
    segments: list[Segment] = list(tables.get("segments", {}).values())
    found = {
        "a third epoch": head.epoch >= 3,
        "a snapshot": bool(tables.get("snapshots")),
        "a mark": bool(tables.get("marks")),
        "a segment that is full": any(s.marked and s.indexed for s in segments),
        "segments marked together": any(s.span is not None and s.span < s.number for s in segments),
        "an early id": any(b.early for b in tables.get("batches", {}).values()),
        "a hold that lapsed": any(t.kind == 4 for t in tables.get("transfers", {}).values()),
        "a hold that settled itself": any(t.kind == 5 for t in tables.get("transfers", {}).values()),
        "a hold settled for more": any(
            t.amount > (t.held or t.amount) for t in tables.get("transfers", {}).values()
        ),
        "a commit of nothing but rows": any(
            isinstance(c.noted[0], CommitNote) and "batches" not in {table for table, _ in c.rows}
            for c in world.commits
            if c.noted
        ),
    }
    return met | {name for name, holds in found.items() if holds}


def live_through(first: int, count: int) -> tuple[list[str], set[str]]:
    """Live through worlds and return what broke, with the seed, and what was met."""
    broken: list[str] = []
    met: set[str] = set()
    for seed in range(first, first + count):
        world = World(seed)
        try:
            Judge(world.run(storm)).judge()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what is wanted
            broken.append(f"python -m tests.ledger.sim.again {seed}: {type(error).__name__}: {error}")
        else:
            met |= met_in(world)
    return broken, met


def explore(seeds: int) -> tuple[list[str], set[str]]:
    starts = range(FIRST, FIRST + seeds, CHUNK)
    broken: list[str] = []
    met: set[str] = set()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for some_broken, some_met in pool.map(live_through, starts, [CHUNK] * len(starts)):
            broken += some_broken
            met |= some_met
    return broken, met


def test_nothing_that_goes_wrong_outside_breaks_a_promise() -> None:
    """And enough goes wrong: every answer is given, every refusal is met, writers come and go."""
    broken, met = explore(SEEDS)
    assert not broken, "\n".join(broken[:20])
    wanted = ANSWERS | UNITS | KINDS | FACTS | {o.name for o in Outcome if o not in RARE}
    assert wanted <= met, sorted(wanted - met)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_nothing_that_goes_wrong_outside_breaks_a_promise_in_many_worlds() -> None:
    broken, _ = explore(SOAK_SEEDS)
    assert not broken, "\n".join(broken[:20])


def test_the_same_seed_lives_the_same_life() -> None:
    def life(seed: int) -> str:
        told = sha256()
        world = World(seed)
        world.tell = lambda what: told.update(f"{world.loop.now_s} {what}".encode())
        world.run(storm)
        told.update(repr(Counter(call.answer for call in world.asking.calls)).encode())
        return told.hexdigest()

    assert life(7) == life(7)
    assert life(7) != life(8)
