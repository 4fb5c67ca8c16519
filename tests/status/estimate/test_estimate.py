"""Estimates: conditional on what has passed, from the alike before the rest, and as good as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from holdfast.status.estimate.remaining import SHARES, Estimate, chance_of, estimate, record
from holdfast.status.estimate.survival import Past, curve

HOUR_S = 3_600.0


def of(component: str, *minutes: float, ended: bool = True) -> list[Past]:
    return [Past(each * 60, ended, component, "technical") for each in minutes]


def drawn(count: int, median_min: float, sigma: float, seed: int) -> list[Past]:
    draw = np.random.default_rng(seed)
    return of("north", *np.exp(math.log(median_min) + sigma * draw.normal(size=count)))


def test_before_anything_happened_it_says_what_histories_of_outages_say() -> None:
    made = estimate([], "north", "technical", 0.0)
    assert made.half_s == pytest.approx(45 * 60, rel=0.15)
    assert made.most_s == pytest.approx(45 * 60 * math.exp(1.15 * 0.84), rel=0.25)
    assert made.alike == 0


def test_with_a_long_history_it_is_the_quantile_of_it() -> None:
    made = estimate(drawn(2_000, 20, 0.8, 1), "north", "technical", 0.0)
    assert made.half_s == pytest.approx(20 * 60, rel=0.1)
    assert made.most_s == pytest.approx(20 * 60 * math.exp(0.8 * 0.8416), rel=0.1)
    assert made.alike == 2_000


def test_the_longer_it_lasts_the_longer_it_will_where_durations_are_skewed() -> None:
    past = drawn(2_000, 20, 1.2, 2)
    left = [estimate(past, "north", "technical", elapsed_s).half_s for elapsed_s in (0, HOUR_S, 6 * HOUR_S)]
    assert left == sorted(left)


@pytest.mark.parametrize("elapsed_s", [0.0, 1.0, 600.0, 10 * HOUR_S, 90 * 24 * HOUR_S])
def test_it_is_never_negative_and_always_an_interval(elapsed_s: float) -> None:
    for past in ([], of("north", 5), of("north", 5, 6, 7, ended=False), drawn(300, 20, 1.0, 3)):
        made = estimate(past, "north", "technical", elapsed_s)
        assert 0 < made.half_s <= made.most_s < math.inf
        assert list(made.curve_s) == sorted(made.curve_s)


def test_the_alike_count_most_and_the_rest_when_there_are_none() -> None:
    past = of("south", *[300.0] * 40) + of("north", *[10.0] * 40)
    alike = estimate(past, "north", "technical", 0.0).half_s
    stranger = estimate(past, "qr", "security", 0.0).half_s
    assert alike < 15 * 60
    assert alike < stranger


def test_what_still_goes_on_counts_for_as_long_as_it_has_lasted() -> None:
    over = of("north", *[30.0] * 20)
    without = estimate(over, "north", "technical", 0.0).most_s
    with_open = estimate(over + of("north", *[120.0] * 10, ended=False), "north", "technical", 0.0).most_s
    assert with_open > without


def test_a_record_that_was_too_sure_makes_the_next_estimate_wider() -> None:
    past = drawn(200, 20, 0.8, 4)
    plain = estimate(past, "north", "technical", 0.0)
    late = estimate(past, "north", "technical", 0.0, [0.9] * 100)
    early = estimate(past, "north", "technical", 0.0, [0.3] * 100)
    assert early.most_s < plain.most_s < late.most_s


def test_an_estimate_is_judged_by_the_chance_it_gave() -> None:
    made = Estimate(10.0, 20.0, 3, tuple(float(number) for number in range(1, 20)))
    assert chance_of(made, 10.0) == pytest.approx(0.5)
    assert (chance_of(made, 0.5), chance_of(made, 25.0)) == (0.0, 1.0)
    assert len(SHARES) == 19
    told = record([(made, 5.0), (made, 15.0), (made, 25.0), (made, 18.0)])
    assert (told.count, told.half, told.most) == (4, 0.25, 0.75)
    assert record([]).count == 0


def test_the_curve_agrees_with_a_count_where_everything_ended() -> None:
    past = of("north", *np.linspace(1, 100, 1_000))
    (found,) = curve(past, "north", "technical").quantiles(50 * 60, [0.5])
    assert found == pytest.approx(25 * 60, rel=0.15)
