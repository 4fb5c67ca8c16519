"""A scenario as the sandbox can play it: who stands for whom, and what is broken when."""

from __future__ import annotations

import pytest

from holdfast.drills import live
from holdfast.drills.live_faults import (
    FAULT_S_MIN,
    PROVIDERS,
    LiveFault,
    Setting,
    kinds,
    live_faults,
    providers,
    rail_order,
)
from holdfast.drills.reading import built_in, load
from holdfast.drills.scenario import FaultKind
from holdfast.sandbox.engine import read_fault
from holdfast.sandbox.faults import WEBHOOK_KINDS, Kind
from tests.drills.worlds import ONE_STEP, PAYERS, RAIL, fault, tiny

NAMES = sorted(built_in())
BOTH = PAYERS.replace('["card"]', '["bank", "card"]')


def squeezed(*parts: str) -> tuple[LiveFault, ...]:
    return live_faults(tiny(BOTH, RAIL, ONE_STEP, *parts), from_s=3.0, to_s=11.0)


def hits(settings: tuple[Setting, ...]) -> list[tuple[Kind, float]]:
    """Return the share of all requests that ends up with each setting; earlier ones outdo later ones."""
    found, free = [], 1.0
    for setting in settings:
        if setting.kind not in WEBHOOK_KINDS:
            found.append((setting.kind, free * setting.share))
            free *= 1 - setting.share
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_fault_of_a_scenario_lies_in_the_window_in_its_order_and_hits_its_share(name: str) -> None:
    scenario = load(name)
    found = live_faults(scenario, from_s=live.FAULT_FROM_S, to_s=live.FAULT_TO_S)
    told = [(one.rail, one.kind, one.share) for one in found]
    assert told == [(one.target, one.kind, one.share) for one in scenario.faults]
    assert [one.from_s for one in found] == sorted(one.from_s for one in found)
    assert min(one.from_s for one in found) == live.FAULT_FROM_S
    assert max(one.to_s for one in found) == pytest.approx(live.FAULT_TO_S)
    for one in found:
        assert one.to_s - one.from_s >= FAULT_S_MIN - 1e-9
        assert one.provider == providers(scenario)[one.rail]
        assert sum(share for _, share in hits(one.settings)) == pytest.approx(one.share, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_payer_of_a_scenario_has_a_way_to_pay_and_no_fault_outlasts_their_patience(name: str) -> None:
    scenario = load(name)
    assert all(kinds(scenario, group) for group in scenario.payers)
    assert live.FAULT_TO_S - live.FAULT_FROM_S < live.DEADLINE_S / 2


@pytest.mark.parametrize(
    ("name", "north", "south", "harbour", "order"),
    [
        ("aws-2025-10", ["cloud-cards"], ["other-cards"], ["cloud-wallet"], "nsh"),
        ("double-11-surge", ["provider-east"], ["provider-west"], ["direct-debit"], "nsh"),
        ("fiserv-zelle-2025", ["cards"], [], ["zelle"], "hns"),
        ("square-discover-2023", ["acquirer-one", "discover"], ["acquirer-two"], [], "nsh"),
        ("upi-2025-04-12", ["cards"], [], ["upi"], "hns"),
        ("visa-europe-2018", ["visa"], ["mastercard"], ["instant-transfer"], "nsh"),
    ],
)
def test_rails_are_played_by_the_providers_most_like_them(
    name: str, north: list[str], south: list[str], harbour: list[str], order: str
) -> None:
    plays = providers(load(name)).items()
    played = [[rail for rail, by in plays if by == provider] for provider in PROVIDERS]
    assert played == [north, south, harbour]
    assert "".join(provider[0] for provider in rail_order(load(name))) == order


def test_payers_carry_what_those_of_the_scenario_carry() -> None:
    scenario = load("fiserv-zelle-2025")
    carried = [kinds(scenario, group) for group in scenario.payers]
    assert carried == [("bank",), ("bank", "card"), ("bank",), ("card", "bank")]
    only_balance = tiny(PAYERS.replace("card", "balance"), RAIL)
    assert kinds(only_balance, only_balance.payers[0]) == ("card",)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_the_sandbox_takes_every_kind_of_fault(kind: FaultKind) -> None:
    more = (
        "carried_out = 0.25\nlate_share = 0.5\ntimes = 10_000\nhold_s = 86_400\ncopies = 2\nrefused = 0.5\n"
    )
    (found,) = squeezed(fault(kind.value, share=0.8) + more)
    for setting in found.settings:
        taken = read_fault(setting.document() | {"instance": found.provider}, number=1, now_ms=0)
        assert (taken.kind, taken.share) == (setting.kind, setting.share)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (fault("gray", share=0.4, late_share=0.5, carried_out=0.5),
         [(Kind.HANG, 0.1), (Kind.MUTE, 0.1), (Kind.SLOW, 0.2)]),
        (fault("hang", carried_out=0.3), [(Kind.HANG, 0.7), (Kind.SLOW, 0.3)]),
        (fault("dark", carried_out=0.2), [(Kind.DARK, 0.8), (Kind.MUTE, 0.2)]),
        (fault("brownout", share=0.5), [(Kind.ERROR_BEFORE, 0.5)]),
        (fault("restart_storm", share=0.8, refused=0.5, carried_out=0.25),
         [(Kind.REFUSE, 0.4), (Kind.ERROR_BEFORE, 0.3), (Kind.ERROR_AFTER, 0.1)]),
    ],
)  # fmt: skip
def test_what_is_carried_out_and_what_is_not_keeps_its_share(
    said: str, wanted: list[tuple[Kind, float]]
) -> None:
    (found,) = squeezed(said)
    assert [kind for kind, _ in hits(found.settings)] == [kind for kind, _ in wanted]
    assert [share for _, share in hits(found.settings)] == pytest.approx([s for _, s in wanted], abs=1e-5)


def test_a_delay_is_as_long_as_the_scenario_says() -> None:
    slow, hang, gray = squeezed(
        fault("slow", times=20),
        fault("hang", carried_out=1, hold_s=30),
        fault("gray", late_share=1, late_s=5),
    )
    delays = [[setting.latency_ms for setting in one.settings] for one in (slow, hang, gray)]
    assert delays == [[4_000], [30_000], [5_000]]


def test_what_is_acknowledged_and_then_silent_is_taken_in_and_reported_when_it_is_over() -> None:
    (found,) = squeezed(fault("ack_then_silent", "instant", copies=2))
    assert found.provider == "harbour"
    silent, *reports = found.settings
    assert silent.kind is Kind.HANG
    assert "authorize" not in silent.operations
    assert "query" in silent.operations
    told = [(setting.kind, setting.latency_ms) for setting in reports]
    assert told == [
        (Kind.WEBHOOK_DELAY, 8_000), (Kind.WEBHOOK_REORDER, None), (Kind.WEBHOOK_DUPLICATE, None)
    ]  # fmt: skip


def test_a_fault_that_would_be_too_short_to_be_met_lasts_a_second() -> None:
    first, long, last = squeezed(
        fault("dark", to_s=1), fault("dark", to_s=600), fault("dark", from_s=599, to_s=600)
    )
    assert (first.from_s, first.to_s) == (3.0, 4.0)
    assert (long.from_s, long.to_s) == (3.0, 11.0)
    assert (last.from_s, last.to_s) == (10.0, 11.0)


def test_more_rails_than_providers_share_them_in_their_order() -> None:
    rails = [RAIL.replace("north", name) for name in ("one", "two", "three", "four")]
    plays = providers(tiny(PAYERS, *rails, ONE_STEP, ONE_STEP.replace("instant", "giro")))
    assert list(plays.values()) == ["north", "south", "north", "south", "harbour", "harbour"]


def test_a_quiet_day_breaks_nothing() -> None:
    assert squeezed() == ()
