"""What routing promises, seen from the flows that ask it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from holdfast.domains.payments.ports import FenceClass, RailTraits
from holdfast.domains.payments.rules.routing import (
    BreakerSettings,
    Offer,
    RailOutcome,
    Router,
    RoutingSettings,
    Ticket,
)

NORTH = Offer("north", "card", FenceClass.F4)
SOUTH = Offer("south", "card", FenceClass.F4)
STILL = RoutingSettings(change_per_decision=0.0, breaks_per_s=0.0, mends_per_s=0.0)
HARBOUR = Offer("harbour", "bank", FenceClass.F1, confirms_later=True)


def router(seed: int = 1, settings: RoutingSettings | None = None, **changes: Any) -> Router:
    return Router(replace(settings or RoutingSettings(), **changes), Random(seed))


def call(router: Router, rail: str, outcome: RailOutcome, now_s: float, latency_s: float = 0.2) -> Ticket:
    ticket = router.started(rail, now_s=now_s)
    assert ticket is not None, f"{rail} takes no call at {now_s}"
    router.finished(ticket, outcome, latency_s=latency_s, now_s=now_s + latency_s)
    return ticket


def teach(router: Router, rates: dict[str, float], *, calls: int, now_s: float = 0.0, seed: int = 5) -> float:
    """Tell the router `calls` outcomes of each rail at these success rates, ten calls a second."""
    luck = Random(seed)
    for _ in range(calls):
        for rail, rate in rates.items():
            call(router, rail, RailOutcome.OK if luck.random() < rate else RailOutcome.FAILED, now_s)
        now_s += 0.1
    return now_s


def firsts(router: Router, offers: list[Offer], now_s: float, decisions: int = 300) -> Counter[str]:
    """Count which rail comes first, without learning from it."""
    return Counter(offers[router.rank(offers, now_s=now_s).order[0]].rail for _ in range(decisions))


def drive(
    router: Router, offers: list[Offer], rates: dict[str, float], *, payments: int, now_s: float, luck: Random
) -> tuple[list[str], float]:
    """Pay at one payment in 50 ms, on the rail that comes first; return the rails used."""
    used = []
    for _ in range(payments):
        offer = next(
            offers[place]
            for place in router.rank(offers, now_s=now_s).order
            if (ticket := router.started(offers[place].rail, now_s=now_s)) is not None
        )
        said = RailOutcome.OK if luck.random() < rates[offer.rail] else RailOutcome.FAILED
        assert ticket is not None
        router.finished(ticket, said, latency_s=0.02, now_s=now_s + 0.02)
        used.append(offer.rail)
        now_s += 0.05
    return used, now_s


def test_the_same_seed_and_calls_give_the_same_decisions() -> None:
    def run(seed: int) -> tuple[list[str], tuple[str, ...]]:
        one = router(seed)
        used, now_s = drive(
            one, [NORTH, SOUTH], {"north": 0.9, "south": 0.8}, payments=300, now_s=0.0, luck=Random(9)
        )
        return used, one.rank([NORTH, SOUTH], now_s=now_s).reasons

    assert run(4) == run(4)
    assert run(4)[0] != run(5)[0]


def test_the_better_rail_goes_first_mostly_and_the_worse_one_still_gets_its_chances() -> None:
    one = router()
    now_s = teach(one, {"north": 0.9, "south": 0.8}, calls=150)
    first = firsts(one, [NORTH, SOUTH], now_s, decisions=1000)
    assert first["north"] > 900
    assert first["south"] > 0


def test_an_outage_is_left_within_few_payments_and_its_end_is_noticed() -> None:
    one, luck, offers = router(), Random(2), [NORTH, SOUTH]
    _, now_s = drive(one, offers, {"north": 0.95, "south": 0.85}, payments=2000, now_s=0.0, luck=luck)
    during, now_s = drive(one, offers, {"north": 0.0, "south": 0.85}, payments=2000, now_s=now_s, luck=luck)
    assert during.count("north") < 40
    assert during[15:100].count("south") > 75
    after, _ = drive(one, offers, {"north": 0.95, "south": 0.85}, payments=2000, now_s=now_s, luck=luck)
    assert after[1000:].count("north") > 800


def test_a_starved_rail_is_probed_and_the_decision_says_so() -> None:
    one = router(settings=STILL, starved_decisions=100, starved_s=5.0)
    now_s = teach(one, {"north": 0.99, "south": 0.02}, calls=300)
    calm = [one.rank([NORTH, SOUTH], now_s=now_s) for _ in range(99)]
    assert not any(ranking.probe for ranking in calm)
    later = [one.rank([NORTH, SOUTH], now_s=now_s + 10) for _ in range(1000)]
    probes = [ranking for ranking in later if ranking.probe]
    assert 5 <= len(probes) <= 50
    assert all(ranking.order[0] == 1 for ranking in probes)
    assert "whether it has recovered" in probes[0].reasons[0]


def test_no_payer_is_used_to_probe_a_rail_that_cannot_fence_or_a_method_they_did_not_choose_first() -> None:
    offers = [NORTH, HARBOUR, Offer("south", "card", FenceClass.F4, payer_rank=1)]
    one = router(settings=STILL, starved_decisions=10, starved_s=0.0)
    now_s = teach(one, {"north": 0.99, "south": 0.1, "harbour": 0.5}, calls=300)
    assert not any(one.rank(offers, now_s=now_s + 60).probe for _ in range(1000))


def test_a_refusal_that_lies_with_the_payer_speaks_against_no_rail() -> None:
    one = router()
    for i in range(50):
        call(one, "north", RailOutcome.DECLINED_BY_PAYER, now_s=i)
    (north,) = one.health(50.0)
    assert north.outcomes == 0
    assert north.breaker == "closed"
    assert north.success_rate == pytest.approx(0.9, abs=0.01)


def test_an_unknown_counts_as_failure_for_now_and_is_corrected_exactly_once() -> None:
    def after(outcomes: list[RailOutcome]) -> tuple[Router, list[Ticket]]:
        one = router(breaker=BreakerSettings(unknown_share_max=2.0))
        return one, [call(one, "north", outcome, now_s=float(i)) for i, outcome in enumerate(outcomes)]

    def rate(one: Router) -> float:
        return one.health(40.0)[0].success_rate

    good, bad, doubt = RailOutcome.OK, RailOutcome.FAILED, RailOutcome.UNKNOWN
    failed, _ = after([good] * 8 + [bad] * 3 + [good] * 2)
    worked, _ = after([good] * 13)
    unsure, tickets = after([good] * 8 + [doubt] * 3 + [good] * 2)
    assert rate(unsure) == pytest.approx(rate(failed))
    for ticket in tickets[8:11]:
        unsure.corrected(ticket, doubt, now_s=30.0)
        unsure.corrected(ticket, good, now_s=30.0)
    once = rate(unsure)
    assert once == pytest.approx(rate(worked), abs=0.01)
    for ticket in tickets:
        unsure.corrected(ticket, good, now_s=31.0)
        unsure.corrected(ticket, bad, now_s=31.0)
        unsure.finished(ticket, bad, latency_s=1.0, now_s=31.0)
    assert rate(unsure) == once
    assert unsure.health(40.0)[0].outcomes == 13
    assert unsure.health(40.0)[0].in_flight == 0
    assert unsure.health(40.0)[0].doubt_s == pytest.approx(21.0)


def test_an_unknown_that_was_the_payers_own_refusal_is_taken_out() -> None:
    one = router(breaker=BreakerSettings(unknown_share_max=2.0))
    for i in range(10):
        call(one, "north", RailOutcome.OK, now_s=float(i))
    before = one.health(10.0)[0].success_rate
    ticket = call(one, "north", RailOutcome.UNKNOWN, now_s=10.0)
    assert one.health(10.0)[0].success_rate < before - 0.03
    one.corrected(ticket, RailOutcome.DECLINED_BY_PAYER, now_s=11.0)
    assert one.health(11.0)[0].success_rate == pytest.approx(before, abs=0.01)


def test_an_unknown_that_did_fail_stays_a_failure() -> None:
    one = router()
    ticket = call(one, "north", RailOutcome.UNKNOWN, now_s=0.0)
    before = one.health(1.0)[0].success_rate
    one.corrected(ticket, RailOutcome.FAILED, now_s=1.0)
    assert one.health(1.0)[0].success_rate == before


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(Offer("south", "card", FenceClass.F4, cost_bp=300), id="the dearer one comes second"),
        pytest.param(Offer("south", "card", FenceClass.F4, payer_rank=1), id="the payer's second choice"),
        pytest.param(
            Offer("south", "bank", FenceClass.F4, confirms_later=True), id="one that confirms later"
        ),
    ],
)
def test_of_two_equally_healthy_rails_second_is(worse: Offer) -> None:
    one = router()
    now_s = teach(one, {"north": 0.95, "south": 0.95}, calls=600)
    assert firsts(one, [worse, NORTH], now_s)["north"] > 270


def test_in_doubt_rails_that_can_hold_go_first_and_those_that_can_only_be_asked_go_last() -> None:
    classes = [FenceClass.F1, FenceClass.F2, FenceClass.F3, FenceClass.F4]
    offers = [Offer(fence.name, "card", fence) for fence in classes]
    one = router(breaker=BreakerSettings(unknown_share_max=2.0))
    luck = Random(3)
    for i in range(400):
        for offer in offers:
            said = RailOutcome.UNKNOWN if luck.random() < 0.2 else RailOutcome.OK
            call(one, offer.rail, said, now_s=i / 10)
    places = {fence.name: 0 for fence in classes}
    for _ in range(300):
        for place, position in enumerate(one.rank(offers, now_s=40.0).order):
            places[offers[position].rail] += place
    assert places["F4"] < places["F2"] < places["F1"]
    assert places["F3"] < places["F2"]
    assert places["F1"] > 2.7 * 300


def test_every_offer_has_its_place_and_its_reason() -> None:
    one = router()
    now_s = teach(one, {"north": 0.9, "south": 0.9, "harbour": 0.9}, calls=30)
    offers = [HARBOUR, Offer("south", "card", FenceClass.F3, cost_bp=140), NORTH]
    ranking = one.rank(offers, now_s=now_s)
    assert sorted(ranking.order) == [0, 1, 2]
    assert len(ranking.reasons) == 3
    said = dict(zip((offers[i].rail for i in ranking.order), ranking.reasons, strict=True))
    assert said["south"].startswith("south: score ")
    assert "costs 1.40 %" in said["south"]
    assert "confirms later" in said["harbour"]
    assert "believed after 30 outcomes" in said["north"]
    assert one.rank([], now_s=now_s).order == ()


def test_two_methods_on_one_rail_share_one_draw_so_the_payers_order_holds() -> None:
    offers = [Offer("north", "card", FenceClass.F4, payer_rank=rank) for rank in (1, 0)]
    one = router()
    assert all(one.rank(offers, now_s=0.0).order == (1, 0) for _ in range(200))


def test_a_rail_that_stops_answering_is_left_probed_once_at_a_time_and_taken_back() -> None:
    one, offers = router(probe_share=1.0), [NORTH, SOUTH]
    now_s = teach(one, {"north": 1.0, "south": 0.9}, calls=100)
    while one.health(now_s)[0].breaker == "closed":
        call(one, "north", RailOutcome.UNKNOWN, now_s, latency_s=10.0)
        now_s += 10.0
    assert one.started("north", now_s=now_s) is None
    blocked = one.rank(offers, now_s=now_s)
    assert blocked.order[0] == 1
    assert "breaker open" in blocked.reasons[1]
    assert "brought no answer" in blocked.reasons[1]
    now_s += 10.0
    ranking = one.rank(offers, now_s=now_s)
    assert ranking.probe
    assert ranking.order[0] == 0
    probe = one.started("north", now_s=now_s)
    assert probe is not None
    assert probe.probe
    assert one.started("north", now_s=now_s) is None
    assert not one.rank(offers, now_s=now_s).probe
    one.finished(probe, RailOutcome.OK, latency_s=0.3, now_s=now_s + 0.3)
    assert one.health(now_s + 1)[0].breaker == "closed"
    assert one.started("north", now_s=now_s + 1) is not None


def test_the_longer_a_breaker_waits_for_a_probe_the_likelier_it_gets_one() -> None:
    one, offers = router(probe_share=0.0), [NORTH, SOUTH]
    now_s = teach(one, {"south": 0.9}, calls=50)
    for _ in range(10):
        ticket = one.started("north", now_s=now_s)
        if ticket is not None:
            one.finished(ticket, RailOutcome.UNKNOWN, latency_s=1.0, now_s=now_s)
    assert not one.rank(offers, now_s=now_s + 5.0).probe
    assert one.rank(offers, now_s=now_s + 5.0 + 600.0).probe


def test_a_rail_that_is_the_only_one_is_called_even_with_its_breaker_open_but_never_over_its_cap() -> None:
    traits = RailTraits(
        "north", "stripe", FenceClass.F3, False, 86_400, ("card",), ("EUR",), concurrency_max=6
    )
    one = Router(RoutingSettings(), Random(1), [traits])
    for i in range(10):
        if (ticket := one.started("north", now_s=float(i))) is not None:
            one.finished(ticket, RailOutcome.UNKNOWN, latency_s=0.1, now_s=float(i))
    assert one.started("north", now_s=10.0) is None
    taken = 0
    while one.started("north", now_s=10.0, last_resort=True) is not None:
        taken += 1
    assert 1 <= taken <= 6


def test_a_rail_that_hangs_takes_no_more_than_its_cap_and_others_go_on() -> None:
    one, offers = router(), [NORTH, SOUTH]
    now_s = teach(one, {"north": 1.0, "south": 0.8}, calls=100)
    hanging = 0
    used: Counter[str] = Counter()
    for _ in range(500):
        ranking = one.rank(offers, now_s=now_s)
        place = next(p for p in ranking.order if offers[p].rail == "south" or not _full(one, "north", now_s))
        rail = offers[place].rail
        ticket = one.started(rail, now_s=now_s)
        assert ticket is not None, f"{rail} was offered first and then refused"
        used[rail] += 1
        if rail == "south":
            one.finished(ticket, RailOutcome.OK, latency_s=0.2, now_s=now_s)
        else:
            hanging += 1
        now_s += 0.001
    assert hanging <= 64
    assert used["south"] >= 436
    assert "calls are under way" in one.rank(offers, now_s=now_s).reasons[-1]


def _full(one: Router, rail: str, now_s: float) -> bool:
    health = {h.rail: h for h in one.health(now_s)}[rail]
    return health.in_flight >= health.in_flight_max


def test_calls_whose_end_was_never_reported_block_no_rail_for_good() -> None:
    one = router()
    while one.started("north", now_s=0.0) is not None:
        pass
    assert one.started("north", now_s=60.0) is None
    assert one.started("north", now_s=121.0) is not None


def test_a_call_that_was_never_made_counts_nothing_and_frees_its_place() -> None:
    one = router()
    ticket = one.started("north", now_s=0.0)
    assert ticket is not None
    one.abandoned(ticket)
    one.abandoned(ticket)
    one.finished(ticket, RailOutcome.FAILED, latency_s=0.1, now_s=0.0)
    (north,) = one.health(0.0)
    assert (north.outcomes, north.in_flight) == (0, 0)


def test_what_works_is_trusted_for_hours_and_what_is_broken_is_tried_again_within_the_hour() -> None:
    one = router()
    now_s = teach(one, {"north": 0.98, "south": 0.02}, calls=300)
    rates = {health.rail: health.success_rate for health in one.health(now_s + 3600.0)}
    assert rates["north"] > 0.93
    assert rates["south"] > 0.3


def test_decisions_in_which_a_rail_is_not_offered_say_nothing_about_it() -> None:
    one = router(breaks_per_s=0.0, mends_per_s=0.0)
    now_s = teach(one, {"north": 0.98, "south": 0.9}, calls=300)
    before = one.health(now_s)[0].success_rate
    for _ in range(5000):
        one.rank([SOUTH], now_s=now_s)
    assert one.health(now_s)[0].success_rate == before


def test_a_new_rail_is_believed_to_work_so_the_payers_first_choice_stands_from_the_first_payment() -> None:
    second = Offer("south", "card", FenceClass.F4, payer_rank=1)
    kept = sum(router(seed).rank([second, NORTH], now_s=0.0).order[0] == 1 for seed in range(200))
    assert kept >= 170


def test_the_payers_second_choice_goes_first_when_the_first_does_not_work() -> None:
    one = router()
    second = Offer("south", "card", FenceClass.F4, payer_rank=1)
    now_s = teach(one, {"north": 0.3, "south": 0.95}, calls=100)
    assert firsts(one, [NORTH, second], now_s)["south"] > 280


def test_our_own_ledger_is_never_doubted() -> None:
    own = RailTraits("balance", "balance", FenceClass.F4, False, 86_400, ("balance",), ("EUR",))
    one = Router(RoutingSettings(), Random(1), [own])
    offers = [Offer("south", "card", FenceClass.F4, payer_rank=1), Offer("balance", "balance", FenceClass.F4)]
    now_s = teach(one, {"south": 0.99}, calls=100)
    assert all(one.rank(offers, now_s=now_s + i).order[0] == 1 for i in range(1000))


def test_what_was_only_accepted_counts_when_it_is_confirmed() -> None:
    one = router()
    tickets = [call(one, "harbour", RailOutcome.ACCEPTED, now_s=float(i)) for i in range(4)]
    assert one.health(4.0)[0].outcomes == 0
    ends = [RailOutcome.OK, RailOutcome.FAILED, RailOutcome.DECLINED_BY_PAYER, RailOutcome.UNKNOWN]
    for ticket, end in zip(tickets, ends, strict=True):
        one.corrected(ticket, end, now_s=10.0)
        one.corrected(ticket, end, now_s=11.0)
    assert one.health(12.0)[0].outcomes == 3
    before = one.health(12.0)[0].success_rate
    one.corrected(tickets[3], RailOutcome.OK, now_s=13.0)
    assert one.health(12.0)[0].outcomes == 3
    assert one.health(12.0)[0].success_rate > before + 0.03


def test_health_tells_rate_doubt_and_that_something_changed_lately() -> None:
    one = router(breaker=BreakerSettings(unknown_share_max=2.0, slow_share_max=2.0))
    now_s = teach(one, {"north": 0.95}, calls=1500)
    (calm,) = one.health(now_s)
    assert calm.success_rate == pytest.approx(0.95, abs=0.03)
    assert calm.success_spread < 0.02
    assert calm.changed_share < 0.2
    hanging = [one.started("north", now_s=now_s) for _ in range(40)]
    for ticket in hanging[:20]:
        assert ticket is not None
        one.finished(ticket, RailOutcome.UNKNOWN, latency_s=8.0, now_s=now_s + 8.0)
    (shaken,) = one.health(now_s)
    assert shaken.success_rate < 0.2
    assert shaken.changed_share > 0.99
    assert shaken.unknown_share > 0.2
    assert shaken.latency_s > 5.0
    assert shaken.in_flight == 20
    assert shaken.in_flight_max < calm.in_flight_max


def test_a_rail_under_maintenance_is_avoided_beforehand_and_used_when_nothing_else_is_left() -> None:
    one = router(settings=STILL, probe_share=0.5)
    now_s = teach(one, {"north": 1.0, "south": 0.9}, calls=50)
    one.avoid(["north", "east"])
    assert firsts(one, [NORTH, SOUTH], now_s) == {"south": 300}
    assert one.started("north", now_s=now_s) is None
    assert one.started("east", now_s=now_s) is None  # one that was never met
    assert "maintenance" in one.hindrance("north", now_s=now_s)
    assert one.started("north", now_s=now_s, last_resort=True) is not None
    one.avoid([])
    assert firsts(one, [NORTH, SOUTH], now_s)["north"] > 150
    assert one.started("north", now_s=now_s) is not None
