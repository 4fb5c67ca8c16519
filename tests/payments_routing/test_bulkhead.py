"""How many calls may be under way at one rail."""

from __future__ import annotations

from random import Random

from holdfast.domains.payments.rules.bulkhead import Bulkhead, BulkheadSettings

SETTINGS = BulkheadSettings(floor=4, ceiling=64)


def fill(bulkhead: Bulkhead) -> int:
    taken = 0
    while bulkhead.enter():
        taken += 1
    return taken


def churn(bulkhead: Bulkhead, answers: int, latency_s: float, *, keep: int | None = None) -> None:
    """Hold the bulkhead full (or at `keep` calls) while so many answers come in."""
    for _ in range(answers):
        while (keep is None or bulkhead.in_flight < keep) and bulkhead.enter():
            pass
        bulkhead.leave(latency_s)


def test_it_takes_no_more_than_its_ceiling() -> None:
    bulkhead = Bulkhead(SETTINGS)
    assert fill(bulkhead) == 64
    assert bulkhead.full
    bulkhead.leave(0.1)
    assert bulkhead.enter()
    assert not bulkhead.enter()


def test_a_rail_may_have_its_own_ceiling_but_never_below_the_floor() -> None:
    assert fill(Bulkhead(SETTINGS, ceiling=7)) == 7
    assert fill(Bulkhead(SETTINGS, ceiling=1)) == 4


def test_when_answers_take_much_longer_than_they_used_to_the_cap_falls_towards_its_floor() -> None:
    bulkhead = Bulkhead(SETTINGS)
    churn(bulkhead, 300, 0.2)
    assert bulkhead.limit == 64
    churn(bulkhead, 60, 8.0)
    assert bulkhead.limit < 16
    assert bulkhead.limit >= 4


def test_when_answers_are_quick_again_the_cap_grows_back() -> None:
    bulkhead = Bulkhead(SETTINGS)
    churn(bulkhead, 300, 0.2)
    churn(bulkhead, 60, 8.0)
    churn(bulkhead, 200, 0.2)
    assert bulkhead.limit == 64


def test_a_long_slowness_does_not_become_the_new_normal_that_excuses_the_next() -> None:
    bulkhead = Bulkhead(SETTINGS)
    churn(bulkhead, 300, 0.2)
    churn(bulkhead, 1000, 8.0)
    churn(bulkhead, 100, 0.2)
    churn(bulkhead, 60, 8.0)
    assert bulkhead.limit < 16


def test_ordinary_scatter_of_latency_costs_no_room() -> None:
    seed = 21
    luck, bulkhead = Random(seed), Bulkhead(SETTINGS)
    lowest = 64
    for _ in range(5000):
        fill(bulkhead)
        bulkhead.leave(luck.lognormvariate(-1.2, 0.5))
        lowest = min(lowest, bulkhead.limit)
    assert lowest >= 48, f"seed {seed}"


def test_a_cap_that_does_not_bind_is_not_changed_by_slow_answers() -> None:
    bulkhead = Bulkhead(SETTINGS)
    churn(bulkhead, 100, 0.2, keep=3)
    churn(bulkhead, 100, 8.0, keep=3)
    assert bulkhead.limit == 64


def test_a_call_that_was_not_sent_frees_its_place_and_says_nothing_about_latency() -> None:
    bulkhead = Bulkhead(SETTINGS)
    churn(bulkhead, 50, 0.2)
    latency_s = bulkhead.latency_s
    before = bulkhead.in_flight
    bulkhead.leave(None)
    assert bulkhead.in_flight == before - 1
    assert bulkhead.latency_s == latency_s
