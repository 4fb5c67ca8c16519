"""The belief about a rate that changes, checked against exact sums where those are small enough."""

from __future__ import annotations

from itertools import product
from math import exp, lgamma
from random import Random

import pytest

from holdfast.domains.payments.rules.routing_evidence import ChangingRate

HAZARD = 0.05


def belief(runs_max: int = 12) -> ChangingRate:
    return ChangingRate(first=(1.0, 1.0), changed=(1.0, 1.0), runs_max=runs_max, recent=4)


def marginal(outcomes: list[bool]) -> float:
    """The probability of these outcomes under one unknown rate, uniform before."""
    wins, losses = sum(outcomes), len(outcomes) - sum(outcomes)
    return exp(lgamma(wins + 1) + lgamma(losses + 1) - lgamma(wins + losses + 2))


def exact_mean(outcomes: list[bool]) -> float:
    """Sum over every way in which the rate may have changed before each outcome and after the last."""
    change = 1.0 - exp(-HAZARD)
    weight_all = mean_all = 0.0
    for changes in product((False, True), repeat=len(outcomes)):
        weight, segment = 1.0, [outcomes[0]]
        for outcome, changed in zip(outcomes[1:], changes[:-1], strict=True):
            weight *= change if changed else 1.0 - change
            if changed:
                weight *= marginal(segment)
                segment = []
            segment.append(outcome)
        weight *= marginal(segment) * (change if changes[-1] else 1.0 - change)
        mean = 0.5 if changes[-1] else (sum(segment) + 1) / (len(segment) + 2)
        weight_all += weight
        mean_all += weight * mean
    return mean_all / weight_all


def observed(outcomes: list[bool], runs_max: int = 100) -> ChangingRate:
    one = belief(runs_max)
    for i, outcome in enumerate(outcomes):
        one.observe(outcome, i * HAZARD)
    return one


@pytest.mark.parametrize("text", ["1", "0", "1111", "1111000", "10101010", "1111110000", "0001111111"])
def test_what_is_believed_is_what_summing_over_all_changes_gives(text: str) -> None:
    outcomes = [c == "1" for c in text]
    assert observed(outcomes).mean(len(outcomes) * HAZARD) == pytest.approx(exact_mean(outcomes), rel=1e-9)


def test_a_bounded_memory_believes_nearly_the_same_as_an_unbounded_one() -> None:
    luck = Random(11)
    outcomes = [luck.random() < (0.9 if i < 400 else 0.4) for i in range(500)]
    bounded, whole = belief(12), belief(10_000)
    worst = 0.0
    for i, outcome in enumerate(outcomes):
        bounded.observe(outcome, i / 1000)
        whole.observe(outcome, i / 1000)
        worst = max(worst, abs(bounded.mean(i / 1000) - whole.mean(i / 1000)))
    assert worst < 0.05
    assert abs(bounded.mean(0.5) - whole.mean(0.5)) < 0.02


def test_while_nothing_changes_it_remembers_and_after_a_change_it_forgets_within_few_outcomes() -> None:
    luck, one = Random(12), belief()
    for i in range(3000):
        one.observe(luck.random() < 0.9, i / 6000)
    assert one.spread(0.5) < 0.02
    for i in range(12):
        one.observe(False, 0.5 + i / 6000)
    assert one.mean(0.502) < 0.2
    assert one.changed_within(20, 0.502) > 0.95


def test_a_rate_that_is_not_looked_at_becomes_uncertain_again() -> None:
    one = observed([False] * 200, runs_max=12)
    then = 200 * HAZARD
    assert one.mean(then) < 0.1
    now, soon, later = (one.fresh(then + passed) for passed in (0.0, 0.1, 0.7))
    assert now < soon < later
    assert one.mean(then + 20.0) == pytest.approx(0.5, abs=0.001)


def test_time_that_goes_back_changes_nothing() -> None:
    one = observed([True] * 10)
    assert one.fresh(0.0) == one.fresh(0.1) == one.fresh(9 * HAZARD)


@pytest.mark.parametrize("text", ["0", "10", "1101", "1111011", "0111111", "1101111", "1111110111"])
def test_a_failure_forgiven_leaves_what_a_success_would_have_left(text: str) -> None:
    outcomes = [c == "1" for c in text]
    one = observed(outcomes)
    one.forgive(text.index("0"), success=True)
    straight = observed([True] * len(text))
    assert one.mean(len(text) * HAZARD) == pytest.approx(straight.mean(len(text) * HAZARD), abs=0.02)
    assert one.observed == len(text)


def test_an_outcome_taken_out_leaves_what_was_before_it() -> None:
    one = observed([True] * 6)
    before = one.mean(6 * HAZARD)
    number = one.observe(False, 6 * HAZARD)
    assert one.mean(6 * HAZARD) < before - 0.05
    one.forgive(number, success=False)
    assert one.mean(6 * HAZARD) == pytest.approx(before, abs=0.02)


def test_forgiving_what_is_long_merged_away_is_harmless() -> None:
    seed = 13
    luck, one = Random(seed), belief()
    failures = []
    for i in range(2000):
        outcome = luck.random() < 0.7
        number = one.observe(outcome, i / 1000)
        if not outcome:
            failures.append(number)
    for number in luck.sample(failures, 300):
        one.forgive(number, success=luck.random() < 0.5)
    assert 0.6 < one.mean(2.0) < 0.95, f"seed {seed}"
    assert 0.0 < one.spread(2.0) < 0.5


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9, 0.995])
def test_draws_are_distributed_as_believed(rate: float) -> None:
    luck, one = Random(14), belief()
    for i in range(800):
        one.observe(luck.random() < rate, i / 6000)
    hazard = 800 / 6000 + 0.05
    draws = [one.draw(luck, hazard) for _ in range(20_000)]
    mean = sum(draws) / len(draws)
    spread = (sum((d - mean) ** 2 for d in draws) / len(draws)) ** 0.5
    assert mean == pytest.approx(one.mean(hazard), abs=0.01)
    assert spread == pytest.approx(one.spread(hazard), rel=0.1)


def test_an_outcome_corrected_after_its_regime_is_long_over_changes_nothing_that_is_believed_now() -> None:
    rate = ChangingRate(first=(9.0, 1.0), changed=(1.0, 1.0), runs_max=12, recent=4)
    number, hazard = rate.observe(False, 0.0), 0.0
    for outcome in range(4000):
        hazard += 1 / 6000
        rate.observe(outcome < 2000, hazard)
    before = rate.mean(hazard)
    rate.forgive(number, success=True)
    assert rate.mean(hazard) == pytest.approx(before)
