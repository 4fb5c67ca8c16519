"""Routing is at least as good as the best published lines; fixed seeds, fewer repetitions than the bench."""

from __future__ import annotations

from statistics import fmean

import pytest
from bench.routing_worlds import PAYMENTS, PROBLEM_1, PROBLEM_2, PUBLISHED, World, run_router

SEEDS = range(3)


@pytest.mark.parametrize("world", [PROBLEM_1, PROBLEM_2], ids=lambda world: world.name)
def test_regret_is_below_the_best_published_line(world: World) -> None:
    assert fmean(run_router(world, 0, seed) for seed in SEEDS) < PUBLISHED[world.name, 0]


@pytest.mark.parametrize("delay", [0, 100])
def test_payments_succeed_at_least_as_often_as_with_the_best_published_line(delay: int) -> None:
    assert fmean(run_router(PAYMENTS, delay, seed) for seed in SEEDS) >= PUBLISHED[PAYMENTS.name, delay]


def test_a_tenth_of_outcomes_unknown_at_first_costs_less_than_half_a_percent() -> None:
    doubtful = fmean(run_router(PAYMENTS, 0, seed, unknown_share=0.1) for seed in SEEDS)
    assert doubtful > fmean(run_router(PAYMENTS, 0, seed) for seed in SEEDS) - 0.005
