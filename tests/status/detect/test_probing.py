"""Probes: an outage is seen from outside, and what could not be tried is not called a failure."""

from __future__ import annotations

from holdfast.status.detect.probing import LOST_S, Probing
from holdfast.status.outcomes import Outcome, Probed


def probe(at_s: float, outcome: Outcome) -> list[Probed]:
    return [Probed(at_s, "ledger", outcome, 3)]


def test_three_failures_in_a_row_are_an_outage_since_the_first_and_three_good_ones_its_end() -> None:
    probing = Probing()
    assert probing.tick(0, probe(0, "ok")) == {}
    assert probing.tick(5, probe(5, "failed")) == probing.tick(10, probe(10, "failed")) == {}
    assert probing.tick(15, probe(15, "failed")) == {"ledger": 5}
    assert probing.out("ledger")
    assert probing.tick(20, probe(20, "ok")) == probing.tick(25, probe(25, "ok")) == {}
    assert probing.tick(30, probe(30, "ok")) == {"ledger": None}
    assert not probing.out("ledger")


def test_a_component_that_answers_is_told_to_be_well_once() -> None:
    probing = Probing()
    told = [probing.tick(at_s, probe(at_s, "ok")) for at_s in range(0, 40, 5)]
    assert told == [{}, {}, {"ledger": None}, {}, {}, {}, {}, {}]


def test_one_failure_is_enough_while_the_wallet_is_silent_that_reported_before() -> None:
    probing = Probing()
    probing.heard(100)
    assert probing.tick(104, probe(104, "failed")) == {}
    assert probing.tick(105.5, []) == {"ledger": 104}


def test_a_probe_that_could_not_try_says_nothing_and_then_it_is_said_that_nothing_is_measured() -> None:
    probing = Probing()
    probing.heard(1)
    assert not probing.unmeasured(2)
    for at_s in (5, 10, 15):
        assert probing.tick(at_s, probe(at_s, "unmeasured")) == {}
    assert probing.unmeasured(LOST_S + 6)
    probing.tick(LOST_S + 7, probe(LOST_S + 7, "failed"))
    assert not probing.unmeasured(LOST_S + 8)


def test_an_outage_is_still_one_after_a_restart() -> None:
    probing = Probing()
    for at_s in (5, 10, 15):
        probing.tick(at_s, probe(at_s, "failed"))
    again = Probing.load(probing.dump())
    assert again.out("ledger")
    assert again.tick(20, probe(20, "failed")) == {}
