"""The board: what was said and measured adds up to how everything stands, and nothing said is lost."""

from __future__ import annotations

from datetime import datetime

import pytest

from holdfast.base.errors import Refused
from holdfast.status.board import (
    UPDATES_MAX,
    Board,
    Corrected,
    Declared,
    Entry,
    IncidentNotFound,
    IncidentOver,
    Measured,
    Merged,
    PeriodInvalid,
    Split,
    Told,
)
from holdfast.status.model import Period, Stage, Standing
from holdfast.status.words import Words
from tests.status.worlds import NOON, board_of, later, opened


def told(stage: Stage, id_: str = "inc_1", components: dict[str, Standing] | None = None) -> Told:
    return Told(id_, f"upd_{id_}_{stage}", stage, Words("News", "消息"), components or {})


def test_an_incident_runs_from_its_first_word_to_its_end_and_each_word_is_kept_with_who_said_it() -> None:
    board = board_of(
        (NOON, "measured", opened()),
        (later(minutes=5), "alice", told("identified", components={"north": "partial_outage"})),
        (later(minutes=9), "alice", told("monitoring")),
        (later(minutes=20), "bob", told("resolved")),
    )
    one = board.incident("inc_1")
    assert [(u.stage, u.by) for u in one.updates] == [
        ("investigating", "measured"),
        ("identified", "alice"),
        ("monitoring", "alice"),
        ("resolved", "bob"),
    ]
    assert one.periods == (
        Period("north", "major_outage", NOON, later(minutes=5)),
        Period("north", "partial_outage", later(minutes=5), later(minutes=20)),
    )
    assert (one.monitoring_at, one.resolved_at) == (later(minutes=9), later(minutes=20))
    assert one.updates[-1].changes == (("north", "partial_outage", "operational"),)
    assert (one.open, one.impact, board.standings()) == (False, "critical", {})


@pytest.mark.parametrize(
    ("measured", "declared", "stands"),
    [
        ("operational", "operational", "operational"),
        ("operational", "partial_outage", "partial_outage"),
        ("major_outage", "operational", "major_outage"),
        (None, "degraded_performance", "degraded_performance"),
        (None, "operational", "operational"),
    ],
)
def test_a_component_stands_as_the_worse_of_what_is_measured_and_what_is_declared(
    measured: Standing | None, declared: Standing, stands: Standing
) -> None:
    board = board_of(
        (NOON, "measured", Measured("north", measured)), (NOON, "alice", Declared("north", declared))
    )
    assert board.own("north") == stands


def test_the_age_of_a_signal_is_that_of_its_standing_and_not_of_its_last_number() -> None:
    board = board_of(
        (NOON, "measured", Measured("north", "partial_outage", 0.4)),
        (later(minutes=3), "measured", Measured("north", "partial_outage", 0.5)),
    )
    signal = board.measured["north"]
    assert (signal.since, signal.share_failing) == (NOON, 0.5)


def test_a_corrected_period_replaces_what_was_believed_and_the_past_can_be_reread() -> None:
    start, end = later(minutes=-30), later(minutes=10)
    correction = Corrected(
        "inc_1", "north", (Period("north", "major_outage", start, end),), "the logs show it began earlier"
    )
    entries = [
        Entry(NOON, "measured", opened()),
        Entry(later(minutes=20), "bob", told("resolved")),
        Entry(later(minutes=60), "alice", correction),
    ]
    assert Board(entries).incident("inc_1").periods == (Period("north", "major_outage", start, end),)
    assert Board(entries[:2]).incident("inc_1").periods[0].start_at == NOON


def test_two_incidents_that_turn_out_to_be_one_are_told_as_one() -> None:
    board = board_of(
        (NOON, "measured", opened("inc_1")),
        (later(minutes=1), "measured", opened("inc_2", {"south": "partial_outage"})),
        (later(minutes=4), "alice", Merged("inc_2", "inc_1", "upd_merged")),
    )
    assert [one.id for one in board.open] == ["inc_1"]
    assert {p.component for p in board.incident("inc_1").periods} == {"north", "south"}
    assert board.own("south") == "partial_outage"
    board.take(Entry(later(minutes=9), "alice", told("resolved")))
    assert board.own("south") == "operational"


def over() -> list[tuple[datetime, str, Told]]:
    return [(later(minutes=9), "bob", told("resolved"))]


@pytest.mark.parametrize(
    ("fact", "refusal"),
    [
        (told("identified", "inc_none"), IncidentNotFound),
        (told("identified"), IncidentOver),
        (Merged("inc_1", "inc_1", "upd_x"), IncidentOver),
        (Corrected("inc_1", "south", (), "why"), PeriodInvalid),
        (Corrected("inc_1", "north", (Period("north", "major_outage", NOON, NOON),), "why"), PeriodInvalid),
        (Corrected("inc_1", "north", (Period("north", "major_outage", NOON),), "why"), PeriodInvalid),
        (Corrected("inc_1", "north", (Period("south", "major_outage", NOON),), "why"), PeriodInvalid),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    fact: Told | Merged | Corrected, refusal: type[Refused]
) -> None:
    board = board_of((NOON, "measured", opened()), *over())
    before = board.incident("inc_1")
    with pytest.raises(refusal):
        board.check(fact, NOON, "alice")
    assert board.incident("inc_1") is before


def test_a_postmortem_can_follow_the_end_and_updates_have_a_bound() -> None:
    board = board_of((NOON, "measured", opened()), *over())
    board.check(told("postmortem"), NOON, "alice")
    while len(board.incident("inc_1").updates) < UPDATES_MAX:
        board.take(Entry(later(hours=1), "alice", told("postmortem")))
    with pytest.raises(IncidentOver):
        board.check(told("postmortem"), NOON, "alice")


def test_what_turns_out_to_be_two_incidents_is_told_of_apart_and_nothing_is_lost() -> None:
    both: dict[str, Standing] = {"north": "major_outage", "ledger": "partial_outage"}
    board = board_of((NOON, "alice", opened(components=both)))
    name = Words("Accounts are slow", "账户变慢")
    for components in ((), ("north", "ledger"), ("south",)):
        with pytest.raises(PeriodInvalid):
            board.check(Split("inc_1", "inc_2", name, components, "u", "v"), NOON, "alice")
    board.take(Entry(later(minutes=5), "bob", Split("inc_1", "inc_2", name, ("ledger",), "u", "v")))
    one, two = board.incident("inc_1"), board.incident("inc_2")
    assert [period.component for period in one.periods] == ["north"]
    assert [(p.component, p.start_at) for p in two.periods] == [("ledger", NOON)]
    assert (two.started_at, two.created_at, two.stage) == (NOON, later(minutes=5), "investigating")
    assert "Accounts are slow" in one.updates[-1].body.en
    assert board.own("ledger") == "partial_outage"
    board.take(Entry(later(minutes=9), "bob", told("resolved", "inc_2")))
    assert (board.own("ledger"), board.own("north")) == ("operational", "major_outage")
