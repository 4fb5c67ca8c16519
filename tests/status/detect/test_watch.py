"""The watch: trouble is seen within seconds, told once and where it is, and over when it is over."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from holdfast.status.detect.baseline import Baseline, hour_of
from holdfast.status.detect.nodes import Node, covers, nodes_of
from holdfast.status.detect.watch import Decision, Found, Moved, Over, Watch
from holdfast.status.outcomes import Count

START_S = 1_767_571_200.0
STEP_S = 0.5
RAILS = ("north", "south", "east")
BANKS = ("b1", "b2", "b3")


class Street:
    """Steady traffic: so many payments a second on every leaf, of which a share fails, without any chance."""

    def __init__(self, watch: Watch | None = None, each_per_s: float = 4.0) -> None:
        self.watch = watch or Watch()
        self.now_s = START_S
        self.each_per_s = each_per_s
        leaves = [(rail, bank) for rail in RAILS for bank in BANKS]
        self._owed = dict.fromkeys(leaves, 0.0)
        self._failed = {leaf: place / len(leaves) for place, leaf in enumerate(leaves)}

    def run(
        self, seconds: float, failing: Mapping[str, float] | None = None, *, live: bool = True
    ) -> list[tuple[float, Decision]]:
        """Return what was decided, and after how many seconds. `failing`: a rail or bank -> its share."""
        began_s = self.now_s
        found: list[tuple[float, Decision]] = []
        while self.now_s < began_s + seconds:
            counts = self._counts(failing or {})
            decided = self.watch.tick(self.now_s, counts, live=live)
            found += [(self.now_s - began_s, one) for one in decided]
            self.now_s += STEP_S
        return found

    def _counts(self, failing: Mapping[str, float]) -> list[Count]:
        counts = []
        for rail in RAILS:
            for bank in BANKS:
                leaf = (rail, bank)
                self._owed[leaf] += self.each_per_s * STEP_S
                many = int(self._owed[leaf])
                self._owed[leaf] -= many
                share = max(failing.get(rail, 0.01), failing.get(bank, 0.01))
                self._failed[leaf] += share * many
                failed = int(self._failed[leaf])
                self._failed[leaf] -= failed
                counts.append(
                    Count(int(self.now_s) // 10 * 10, "pay", rail, bank, "", many - failed, failed, 0)
                )
        return counts


@pytest.mark.parametrize(
    ("failing", "node", "within_s"),
    [
        ({"north": 1.0}, ("*", "north", "*", "*"), 6),
        ({"north": 0.3}, ("*", "north", "*", "*"), 30),
        ({"b2": 1.0}, ("*", "*", "b2", "*"), 8),
        (dict.fromkeys(RAILS, 1.0), ("pay", "*", "*", "*"), 6),
    ],
)
def test_one_incident_opens_within_seconds_at_the_highest_place_whose_parts_agree(
    failing: dict[str, float], node: Node, within_s: float
) -> None:
    street = Street()
    assert street.run(120) == []
    decided = street.run(60, failing)
    after_s, first = decided[0]
    assert after_s <= within_s
    assert street.watch.open == (node,)
    assert isinstance(first, Found)
    assert all(isinstance(one, Found | Moved) for _, one in decided)


def test_what_is_found_to_be_wider_moves_and_does_not_open_a_second_incident() -> None:
    street = Street()
    street.run(60)
    street.run(30, {"north": 1.0})
    decided = [one for _, one in street.run(60, {"north": 1.0, "south": 1.0, "east": 1.0})]
    assert isinstance(decided[0], Moved | Found)
    assert street.watch.open[-1] == ("pay", "*", "*", "*")


def test_it_is_over_after_two_clean_minutes_and_not_before() -> None:
    street = Street()
    street.run(60)
    street.run(40, {"north": 1.0})
    ((after_s, one),) = street.run(300)
    assert one == Over(("*", "north", "*", "*"))
    assert 120 <= after_s <= 240
    assert street.run(600) == []


def test_a_blip_of_the_very_usual_kind_opens_nothing() -> None:
    street = Street()
    assert street.run(3_600, {"north": 0.03}) == []


def test_while_the_wallet_does_not_report_nothing_opens_and_nothing_ends() -> None:
    street = Street()
    street.run(60)
    street.run(40, {"north": 1.0})
    assert street.run(600, live=False) == []
    assert street.watch.open == (("*", "north", "*", "*"),)


def test_what_fails_a_little_for_an_hour_is_found_once() -> None:
    street = Street(each_per_s=0.5)
    for rail in RAILS:
        for node in nodes_of(("pay", rail, "", "")):
            street.watch.baseline.learn(node, START_S - 86_400, 1_000_000, 10_000, 86_400.0)
    street.run(600)
    decided = [one for _, one in street.run(3_600, {"north": 0.085})]
    assert len(decided) == 1
    assert street.watch.open == (("*", "north", "*", "*"),)


def test_payments_that_no_longer_come_are_missed() -> None:
    street = Street()
    street.run(1_800)
    street.each_per_s = 0.0
    decided = street.run(60)
    (after_s, one) = decided[0]
    assert isinstance(one, Found)
    assert (one.rule, one.node) == ("silence", ("pay", "*", "*", "*"))
    assert after_s < 10


def test_nothing_opens_under_maintenance_and_it_is_not_learned() -> None:
    watch, planned = Watch(), [("*", "north", "*", "*")]
    for second in range(1_200):
        counts = [Count(0, "pay", "north", "", "", 0, 5, 0), Count(0, "pay", "south", "", "", 5, 0, 0)]
        assert watch.tick(START_S + second, counts, live=True, planned=planned) == []
    assert watch.baseline.share(("*", "north", "*", "*"), START_S) == 0.01


def test_a_restart_goes_on_where_it_was() -> None:
    street = Street()
    street.run(900)
    street.run(40, {"north": 1.0})
    kept = json.loads(json.dumps(street.watch.dump()))
    again = Street(Watch.load(kept, street.now_s))
    again.now_s = street.now_s
    assert again.watch.open == street.watch.open
    south = ("*", "south", "*", "*")
    assert again.watch.baseline.share(south, START_S) == pytest.approx(
        street.watch.baseline.share(south, START_S), rel=1e-3
    )
    assert [one for _, one in again.run(300)] == [Over(("*", "north", "*", "*"))]


def test_what_trouble_touched_is_not_learned_as_normal() -> None:
    street = Street()
    street.run(1_200)
    before = street.watch.baseline.share(("*", "north", "*", "*"), START_S)
    street.run(1_200, {"north": 1.0})
    assert street.watch.baseline.share(("*", "north", "*", "*"), START_S) == pytest.approx(before, abs=0.01)


def test_an_hour_that_comes_round_again_counts_more_than_the_one_a_week_ago() -> None:
    known, node = Baseline(), ("pay", "*", "*", "*")
    week_s = 7 * 86_400
    for week in range(4):
        known.learn(node, START_S + week * week_s, 1_000, 10 if week < 3 else 100, 600.0)
    assert hour_of(START_S) == hour_of(START_S + week_s)
    assert known.share(node, START_S) > (10 * 3 + 100) / 4_000
    assert known.rate(node, START_S) == pytest.approx(1_000 / 600)
    assert known.rate(node, START_S + 3_600) == 0.0


def test_a_leaf_lies_under_each_of_its_nodes_and_under_no_other() -> None:
    leaf = ("pay", "north", "b1", "CN")
    nodes = nodes_of(leaf)
    assert ("*", "north", "*", "*") in nodes
    assert all(covers(node, leaf) for node in nodes)
    assert not covers(("*", "south", "*", "*"), leaf)
    assert nodes_of(("pay", "north", "", ""))[-1] == ("pay", "north", "*", "*")
