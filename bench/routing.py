"""How well routing finds the best rail when rails change: `make bench-routing`.

The worlds are the published non-stationary problems 1 and 2 (Besson and others, GLR-klUCB) and a payment-like
one with an outage and a brown-out. Regret is expected: the sum over transactions of the best rate less the
chosen rail's; the share is the mean chosen rate. Outcomes arrive at once, or 100 transactions later. Our line
runs the real `Router`, with its breakers and bulkheads; the rivals are in `routing_rivals`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from random import Random
from statistics import fmean, pstdev
from typing import Final

import numpy as np

from bench.report import report
from bench.routing_rivals import (
    Bucketed,
    DiscountedThompson,
    Policy,
    PriorityWithBreaker,
    Rng,
    SlidingWindowThompson,
    SlidingWindowUcb,
)
from bench.routing_worlds import (
    DELAYS,
    LATENCY_S,
    PAYMENTS,
    PER_S,
    PUBLISHED,
    RAILS,
    WORLDS,
    World,
    make_router,
    run_router,
)
from holdfast.domains.payments.ports import FenceClass
from holdfast.domains.payments.rules.routing import Offer, RailOutcome


def run_rival(make: Callable[[int, int, Rng], Policy], world: World, delay: int, reps: int) -> list[float]:
    """Run a rival `reps` times at once; return the regret or success share of each."""
    rng = np.random.default_rng(1)
    policy = make(reps, len(world.rows[0]), rng)
    due: deque[tuple[np.ndarray, np.ndarray]] = deque()
    total, regret = np.zeros(reps), np.zeros(reps)
    for t in range(world.transactions):
        if len(due) > delay:
            policy.learn(*due.popleft())
        rates = np.array(world.row(t))
        arms = policy.choose(t)
        chosen = rates[arms]
        due.append((arms, (rng.random(reps) < chosen).astype(float)))
        total += chosen
        regret += rates.max() - chosen
    result: list[float] = (regret if world.counts_regret else total / world.transactions).tolist()
    return result


def rivals(world: World) -> dict[str, Callable[[int, int, Rng], Policy]]:
    """Return the rivals with the constants that suit `world` best, as they were published."""
    bucket, keep, window = (50, 0.99, 200) if world.counts_regret else (125, 0.999, 1000)
    return {
        "priority with breaker": lambda reps, arms, _: PriorityWithBreaker(reps, arms),
        "SW-UCB (200)": lambda reps, arms, _: SlidingWindowUcb(reps, arms),
        f"bucketed rate ({bucket}, hedge 5 %)": lambda reps, arms, rng: Bucketed(
            reps, arms, rng, bucket=bucket
        ),
        f"discounted Thompson ({keep})": lambda reps, arms, rng: DiscountedThompson(
            reps, arms, rng, keep=keep
        ),
        f"sliding-window Thompson ({window})": lambda reps, arms, rng: SlidingWindowThompson(
            reps, arms, rng, window=window
        ),
    }


def _text(world: World, values: list[float]) -> str:
    mean, spread = fmean(values), pstdev(values)
    return f"{mean:.1f} ± {spread:.1f}" if world.counts_regret else f"{mean:.4f} ± {spread:.4f}"


def rank_us() -> float:
    """Return what one decision among three rails takes, microseconds: a quarter of all batches took less."""
    router = make_router(1, 0)
    offers = [Offer(rail, "card", FenceClass.F4) for rail in RAILS]
    luck = Random(1)
    batches = []
    for batch in range(200):
        now_s = batch * _BATCH / PER_S
        begun = time.perf_counter()
        for _ in range(_BATCH):
            router.rank(offers, now_s=now_s)
        batches.append((time.perf_counter() - begun) / _BATCH * 1e6)
        for rail in RAILS * 10:
            ticket = router.started(rail, now_s=now_s)
            if ticket is not None:
                said = RailOutcome.OK if luck.random() < 0.9 else RailOutcome.FAILED
                router.finished(ticket, said, latency_s=LATENCY_S, now_s=now_s)
    return sorted(batches)[len(batches) // 4]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=200, help="repetitions of each line (default 200)")
    reps: int = parser.parse_args().reps
    begun = time.monotonic()
    table: list[tuple[str, ...]] = [("world", "policy", "outcomes at once", "100 later")]
    ratios: dict[str, float] = {}
    figures: dict[str, float | str] = {}
    with ProcessPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        for world in WORLDS:
            for name, make in rivals(world).items():
                table.append(
                    (world.name, name, *(_text(world, run_rival(make, world, d, reps)) for d in DELAYS))
                )
            jobs = [(world, delay, seed) for delay in DELAYS for seed in range(reps)]
            ours = list(pool.map(run_router, *zip(*jobs, strict=True), chunksize=4))
            halves = (ours[:reps], ours[reps:])
            table.append((world.name, "Holdfast", *(_text(world, half) for half in halves)))
            for delay, half in zip(DELAYS, halves, strict=True):
                key = f"{world.name.replace(' ', '_')}_delay_{delay}"
                figures[key] = fmean(half)
                figures[key + "_spread"] = pstdev(half)
                if (best := PUBLISHED.get((world.name, delay))) is not None:
                    ratios[key + "_regret_of_best_published"] = world.regret(fmean(half)) / world.regret(best)
            print(f"{world.name} done after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    figures["payments_with_a_tenth_unknown_at_first"] = fmean(
        run_router(PAYMENTS, 0, seed, unknown_share=0.1) for seed in range(_DOUBTFUL_REPS)
    )
    figures["rank_us"] = rank_us()
    figures["seconds"] = time.monotonic() - begun
    notes = [*_NOTES, f"{reps} repetitions of each line."]
    report("routing", ratios=ratios, figures=figures, table=table, notes=notes)


_DOUBTFUL_REPS: Final = 10
_BATCH: Final = 50
_NOTES: Final = [
    "Problems: expected regret over 5000 transactions, lower is better.",
    "Payments: share of success over 20,000, higher is better (an all-knowing router reaches 0.8975).",
    "Ratios: regret (of payments: the distance to the all-knowing router) to the best published line's.",
    "± is the standard deviation between repetitions.",
    "Best lines published: problem 1 114.0 ± 24.4, problem 2 113.6 ± 25.4; payments 0.8847, late 0.8820.",
]

if __name__ == "__main__":
    main()
