"""Maintenance: told in time, checked against busy days, and started, verified and ended by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest

from holdfast.base.errors import Refused
from holdfast.status import shapes, uptime
from holdfast.status.board import Board, Entry, Fact
from holdfast.status.graph import default
from holdfast.status.maintenance import calendar
from holdfast.status.maintenance.book import (
    Approved,
    Changed,
    MaintenanceInvalid,
    MaintenanceNotSo,
    Planned,
    Recurs,
    SecondPersonNeeded,
    Stepped,
)
from holdfast.status.maintenance.conflicts import Wanted, conflicts, hit
from holdfast.status.maintenance.lead import LEADS, Avoid, Policy, before, reminder, tell_by
from holdfast.status.maintenance.life import KNOWN_WITHIN, Life
from holdfast.status.maintenance.plan import Effect, Maintenance, Series
from holdfast.status.maintenance.series import HORIZON, rule_of, windows
from holdfast.status.notices import told
from holdfast.status.outcomes import Count, Probed
from holdfast.status.words import Words
from tests.status.worlds import NOON, later, view_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
NORTH = (Effect("north"),)
GRAPH = default()
ids = count()


def new_id(prefix: str) -> str:
    return f"{prefix}_{next(ids)}"


def planned(
    starts_at: datetime, hours: float = 2, effects: tuple[Effect, ...] = NORTH, **more: Any
) -> Planned:
    return Planned(
        new_id("mnt"), new_id("ntc"), Words("Work on North", "North 维护"), Words("New lines.", "更换线路。"),
        effects, "other_way", starts_at, starts_at + timedelta(hours=hours), **more,
    )  # fmt: skip


class World:
    """A board with a clock, and the life of its windows."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.board, self.now = Board(), NOON
        self.life = Life(GRAPH, policy or Policy())

    def add(self, fact: Fact, by: str = "alice") -> None:
        self.board.check(fact, self.now, by)
        self.board.take(Entry(self.now, by, fact))

    def plan(self, starts_in: timedelta, **more: Any) -> str:
        fact = planned(NOON + starts_in, **more)
        self.add(fact)
        return fact.id

    def until(
        self, at: datetime, counts: tuple[Count, ...] = (), probes: tuple[Probed, ...] = ()
    ) -> list[Fact]:
        """Go on to a moment, with what is seen then."""
        self.now = at
        verifying = [one for one in self.board.maintenance.running if one.state == "verifying"]
        self.life.checks.take(verifying, counts, probes)
        facts = self.life.due(self.board, at, new_id)
        for fact in facts:
            self.add(fact, "schedule")
        return facts

    def one(self, id_: str) -> Maintenance:
        return self.board.maintenance.one(id_)


def seen(failed: int = 0, succeeded: int = 0) -> tuple[Count, ...]:
    return (Count(0, "pay", "north", "", "", succeeded, failed, 0),)


def test_a_window_starts_verifies_and_ends_by_itself() -> None:
    world = World()
    id_ = world.plan(timedelta(hours=1))
    assert world.until(later(minutes=59, seconds=50))[0].body.en.startswith("It starts in 1 hours")  # type: ignore[union-attr]
    world.until(later(hours=1))
    assert (world.one(id_).state, world.board.own("north")) == ("in_progress", "under_maintenance")
    world.until(later(hours=3))
    assert world.one(id_).state == "verifying"
    world.until(later(hours=3, seconds=10), seen(succeeded=20))
    assert (world.one(id_).state, world.board.own("north")) == ("completed", "operational")
    assert [note.moment for note in world.one(id_).notes] == [
        "planned", "reminder", "started", "verifying", "completed",
    ]  # fmt: skip
    assert world.until(later(hours=4)) == []


@pytest.mark.parametrize(
    ("after", "counts"),
    [(timedelta(seconds=5), seen(failed=10)), (KNOWN_WITHIN, ())],
    ids=["bad", "not known"],
)
def test_an_overrun_becomes_an_incident_by_itself_and_ends_with_it(
    after: timedelta, counts: tuple[Count, ...]
) -> None:
    world = World()
    id_ = world.plan(timedelta(hours=1))
    world.until(later(hours=1))
    world.until(later(hours=3))
    assert world.board.open == []
    world.until(later(hours=3) + after, counts)
    (incident,) = world.board.open
    assert (incident.cause, incident.started_at, incident.automatic) == ("maintenance", later(hours=3), True)
    assert world.board.own("north") == "major_outage"
    world.until(later(hours=4), probes=tuple(Probed(0.0, "north", "ok", 5) for _ in range(3)))
    assert world.board.open == [] or counts  # the failures count on, so more payments are needed
    world.until(later(hours=4, minutes=1), seen(succeeded=400))
    assert world.board.open == []
    assert world.one(id_).state == "completed"
    assert world.one(id_).overran == incident.id


def test_maintenance_is_taken_out_of_the_whole_and_what_lasts_longer_is_not() -> None:
    world = World()
    world.plan(timedelta(hours=1))
    for at in (later(hours=1), later(hours=3), later(hours=3) + KNOWN_WITHIN):
        world.until(at)
    world.until(later(hours=4), seen(succeeded=100))
    past = uptime.Past(GRAPH)
    day = past.days(uptime.periods(world.board), later(hours=8), later(days=-9))["north"][-1]
    assert (day.maintained_s, day.down_s, day.counted_s) == (7_200, 3_600, 18 * 3_600)
    assert day.share_up == pytest.approx(1 - 1 / 18)


def test_what_stands_on_a_component_is_down_with_it_in_its_own_bars() -> None:
    world = World()
    world.plan(timedelta(hours=1), effects=(Effect("ledger"),))
    for at in (later(hours=1), later(hours=3), later(hours=3, minutes=5)):
        world.until(at)
    past = uptime.Past(GRAPH)
    day = past.days(uptime.periods(world.board), later(hours=4), later(days=-9))["pay-balance"][-1]
    assert (day.maintained_s, day.down_s) == (7_200, 3_600)


def test_reminders_come_once_each_and_again_after_a_change() -> None:
    world = World(Policy(reminders=("5wd", "24h", "1h")))
    id_ = world.plan(timedelta(days=10))
    moments: list[str] = []
    for hour in range(10 * 24):
        for fact in world.until(later(hours=hour)):
            if isinstance(fact, Stepped) and fact.moment == "reminder":
                moments += fact.reminders
        if hour == 9 * 24 + 12:
            change = Changed(
                id_,
                new_id("ntc"),
                Words("Two days later.", "推迟两天。"),
                later(days=12),
                later(days=12, hours=1),
            )
            world.add(change)
    assert moments == ["5wd", "24h"]
    again = [
        f.reminders for h in range(240, 288) for f in world.until(later(hours=h)) if isinstance(f, Stepped)
    ]
    assert again[:2] == [("24h",), ("1h",)]


def test_a_service_that_was_away_reminds_once_with_the_nearest() -> None:
    world = World()
    id_ = world.plan(timedelta(days=10))
    (fact,) = world.until(later(days=9, hours=23, minutes=30))
    assert isinstance(fact, Stepped)
    assert set(fact.reminders) == {"5wd", "24h", "1h"}
    assert "in 1 hours" in fact.body.en
    assert world.one(id_).reminded == {"5wd", "24h", "1h"}


def test_only_a_second_person_can_override_a_veto_and_without_one_it_is_off() -> None:
    world = World()
    id_ = world.plan(timedelta(hours=1), vetoes=("lead_time",), reason="a leak")
    assert (world.one(id_).state, world.board.maintenance.public) == ("proposed", [])
    assert list(told.every(world.board)) == []
    with pytest.raises(SecondPersonNeeded):
        world.add(Approved(id_, new_id("ntc")), "alice")
    world.add(Approved(id_, new_id("ntc")), "bob")
    assert (world.one(id_).state, world.one(id_).approved_by) == ("scheduled", "bob")
    assert len(list(told.every(world.board))) == 1
    other = world.plan(timedelta(hours=1), vetoes=("lead_time",), reason="a leak")
    world.until(later(hours=1))
    assert (world.one(other).state, world.one(id_).state) == ("cancelled", "in_progress")
    assert {notice.about.id for notice in told.every(world.board)} == {id_}


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [
        (later(hours=2), later(hours=2)),
        (later(hours=-1), later(hours=1)),
        (later(hours=1), later(days=8)),
        (later(days=400), later(days=400, hours=1)),
        (later(hours=1).replace(tzinfo=None), later(hours=2)),
    ],
)
def test_a_window_that_cannot_be_is_refused_and_changes_nothing(
    starts_at: datetime, ends_at: datetime
) -> None:
    world = World()
    fact = Planned("mnt", "ntc", Words("x"), Words("x"), NORTH, "wait", starts_at, ends_at)
    with pytest.raises(MaintenanceInvalid):
        world.add(fact)
    assert world.board.maintenance.live == []


def test_what_has_started_can_only_end_later_and_what_is_over_changes_no_more() -> None:
    world = World()
    id_ = world.plan(timedelta(hours=1))
    world.until(later(hours=1))
    with pytest.raises(MaintenanceNotSo):
        world.add(Changed(id_, new_id("ntc"), Words("x"), starts_at=later(hours=5)))
    world.add(Changed(id_, new_id("ntc"), Words("Half an hour more."), ends_at=later(hours=3, minutes=30)))
    assert world.until(later(hours=3)) == []
    world.until(later(hours=3, minutes=30))
    world.until(later(hours=3, minutes=31), seen(succeeded=20))
    for fact in (
        Changed(id_, "ntc", Words("x"), ends_at=later(hours=9)),
        Stepped(id_, "ntc", "cancelled", "cancelled", Words("x")),
    ):
        with pytest.raises(MaintenanceNotSo):
            world.add(fact)


def wanted(at: datetime, hours: float = 1, effects: tuple[Effect, ...] = NORTH) -> Wanted:
    return Wanted(effects, at, at + timedelta(hours=hours))


def codes(window: Wanted, policy: Policy | None = None, *others: Maintenance, **left_s: float) -> set[str]:
    found = conflicts(window, others, policy or Policy(leads=()), GRAPH, left_s, NOON)
    assert all(one.words.en and one.words.zh for one in found)
    return {one.code for one in found}


def at(text: str, zone: ZoneInfo = SHANGHAI) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


QUIET = at("2026-11-25 02:00")
FAIR = Avoid(Words("Fair"), QUIET.date(), QUIET.date())
CHINA = Policy("Asia/Shanghai", ("CN",), ("CN",))


def test_notice_is_counted_in_working_days_of_the_country() -> None:
    """National Day 2026: 1 to 7 October are off, and Saturday 10 October is worked instead."""
    assert before(at("2026-10-09 02:00"), 1, ("CN",), SHANGHAI) == at("2026-10-08 02:00")
    assert before(at("2026-10-08 02:00"), 1, ("CN",), SHANGHAI) == at("2026-09-30 02:00")
    assert before(at("2026-10-12 02:00"), 1, ("CN",), SHANGHAI) == at("2026-10-10 02:00")
    assert before(at("2026-10-12 02:00"), 1, (), SHANGHAI) == at("2026-10-09 02:00")
    by, lead = tell_by(at("2026-11-25 02:00"), [LEADS["IT-pagopa"], LEADS["CN"]], SHANGHAI)
    assert (by, lead.id) == (at("2026-11-18 02:00"), "CN")


@pytest.mark.parametrize(("starts", "late"), [("2026-11-18 20:00", False), ("2026-11-18 19:59", True)])
def test_a_window_told_too_late_is_vetoed_to_the_minute(starts: str, late: bool) -> None:
    """Noon UTC on Wednesday 11 November is 20:00 in Shanghai; five working days later it is Wednesday 18."""
    assert ("lead_time" in codes(wanted(at(starts)), CHINA)) is late


@pytest.mark.parametrize(
    ("starts", "policy", "code"),
    [
        ("2027-01-01 02:00", Policy("Asia/Shanghai", (), ("CN",)), "holiday"),
        ("2026-11-25 02:00", Policy("Asia/Shanghai", (), paydays=(25,)), "payday"),
        ("2026-11-30 02:00", Policy("Asia/Shanghai", (), paydays=(-1,)), "payday"),
        ("2027-02-28 02:00", Policy("Asia/Shanghai", (), paydays=(31,)), "payday"),
        ("2026-11-24 23:30", Policy("Asia/Shanghai", (), paydays=(25,)), "payday"),
        ("2026-11-25 02:00", Policy("Asia/Shanghai", (), bills_due=(25,)), "bills_due"),
        ("2027-11-11 02:00", Policy("Asia/Shanghai", ()), "festival"),
        ("2027-06-18 02:00", Policy("Asia/Shanghai", ()), "festival"),
        ("2026-11-27 02:00", Policy("Asia/Shanghai", ()), "festival"),
        ("2026-11-30 02:00", Policy("Asia/Shanghai", ()), "festival"),
        ("2026-11-25 02:00", Policy("Asia/Shanghai", (), avoid=(FAIR,)), "avoid"),
    ],
)  # fmt: skip
def test_busy_days_are_vetoed(starts: str, policy: Policy, code: str) -> None:
    assert code in codes(wanted(at(starts)), policy)


def test_a_quiet_night_has_nothing_against_it() -> None:
    busy = Policy("Asia/Shanghai", (), ("CN",), paydays=(10, -1), bills_due=(5,))
    assert codes(wanted(QUIET), busy) == set()
    assert codes(wanted(at("2026-11-26 02:00")), Policy("Asia/Shanghai", ())) == set()  # the day before
    assert codes(wanted(at("2026-11-24 23:00")), Policy("Asia/Shanghai", (), paydays=(25,))) == set()


def test_two_windows_that_touch_the_same_or_leave_no_way_are_vetoed() -> None:
    world = World()
    id_ = world.plan(timedelta(days=13, hours=6))
    there = world.one(id_)
    inside = there.starts_at + timedelta(minutes=30)
    assert codes(wanted(inside), None, there) == {"overlap"}
    assert codes(wanted(inside, effects=(Effect("south"),)), None, there) == {"no_way_left"}
    assert codes(wanted(inside, effects=(Effect("harbour"),)), None, there) == set()
    assert codes(wanted(there.ends_at, effects=(Effect("south"),)), None, there) == set()


def test_a_cut_that_the_error_budget_does_not_allow_is_vetoed() -> None:
    ledger = (Effect("ledger", cuts=2, longest_s=300),)
    window = wanted(QUIET, effects=ledger)
    left = {"pay-balance": 600.0, "pay-card": 9e9}
    assert codes(window, None, **left) == set()
    assert codes(window, None, **{**left, "pay-balance": 599.0}) == {"budget"}
    slower = wanted(QUIET, effects=(Effect("ledger", "slower"),))
    assert codes(slower, None, **{"pay-balance": 0.0}) == set()
    assert set(hit(ledger, GRAPH)) == {"pay-balance", "pay-card", "pay-bank", "top-up", "refund"}


def series(rule: str, starts: str = "2026-11-17 02:00", zone: str = "Asia/Shanghai") -> Series:
    starts_at = at(starts, ZoneInfo(zone))
    return Series(
        "mns_1",
        Words("Weekly"),
        Words("x"),
        NORTH,
        "wait",
        starts_at,
        starts_at + timedelta(hours=1),
        rule,
        zone,
        "a",
    )


def test_windows_recur_by_the_rule_in_local_hours_also_over_a_change_of_the_clock() -> None:
    found = windows(series("FREQ=WEEKLY;BYDAY=TU"), NOON)
    assert found[0][0] == at("2026-11-17 02:00")
    assert len(found) == 8
    assert found[-1][0] <= NOON + HORIZON
    rome = windows(
        series("FREQ=WEEKLY", "2026-10-20 02:30", "Europe/Rome"), datetime(2026, 10, 19, tzinfo=UTC)
    )
    assert [start.astimezone(ZoneInfo("Europe/Rome")).hour for start, _ in rome] == [2] * len(rome)
    assert rome[1][0] - rome[0][0] == timedelta(days=7, hours=1)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=HOURLY",
        "FREQ=SECONDLY",
        "often",
        "FREQ=WEEKLY;BYDAY=XX",
        "FREQ=DAILY\nEXDATE:20261111",
        "x" * 300,
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: str) -> None:
    with pytest.raises(MaintenanceInvalid):
        rule_of(series(rule))


def test_each_window_of_a_series_is_planned_once_and_vetoed_ones_wait_for_a_second_person() -> None:
    world = World(Policy("Asia/Shanghai", ("CN",), ("CN",)))
    world.add(Recurs(series("FREQ=WEEKLY;BYDAY=TU,FR")))

    def recur() -> list[Fact]:
        facts = world.life.recurring(world.board, world.now, new_id, dict)
        for fact in facts:
            world.add(fact, "schedule")
        return facts

    assert len(recur()) > 10
    assert recur() == []
    states = {
        one.starts_at.astimezone(SHANGHAI).date().isoformat(): one for one in world.board.maintenance.live
    }
    assert states["2026-11-17"].vetoes == ("lead_time",)
    assert states["2026-11-27"].vetoes == ("festival",)
    assert states["2026-12-08"].state == "scheduled"
    moved = states["2026-12-08"]
    world.add(Changed(moved.id, "ntc", Words("x"), at("2026-12-09 02:00"), at("2026-12-09 03:00")))
    assert recur() == []


def test_the_public_formats_show_windows_with_their_own_words_only_in_new_keys() -> None:
    world = World()
    running = world.plan(timedelta(hours=1), effects=(Effect("north", "cut", 2, 300),))
    coming = world.plan(timedelta(days=3), effects=(Effect("south", "slower"),))
    off = world.plan(timedelta(days=4))
    hidden = world.plan(timedelta(days=5), vetoes=("payday",), reason="x")
    world.add(Stepped(off, "ntc_off", "cancelled", "cancelled", Words("Not needed.")))
    world.until(later(hours=1))
    made = {
        path: json.loads(body) for path, body in shapes.files(view_of(world.board, later(hours=1))).items()
    }
    every = made["api/v2/scheduled-maintenances.json"]["scheduled_maintenances"]
    assert {one["id"]: one["status"] for one in every} == {
        running: "in_progress", coming: "scheduled", off: "completed",
    }  # fmt: skip
    active = made["api/v2/scheduled-maintenances/active.json"]["scheduled_maintenances"]
    upcoming = made["api/v2/scheduled-maintenances/upcoming.json"]["scheduled_maintenances"]
    assert ([one["id"] for one in active], [one["id"] for one in upcoming]) == ([running], [coming])
    assert active[0]["impact"] == "maintenance"
    assert active[0]["scheduled_until"] == "2026-11-11T15:00:00.000Z"
    assert active[0]["components"][0]["status"] == "under_maintenance"
    assert made["api/v2/summary.json"]["status"]["indicator"] == "none"  # South does it
    assert hidden not in json.dumps(made)


def test_calendars_read_the_windows_and_their_changes() -> None:
    world = World()
    id_ = world.plan(timedelta(days=3), effects=(Effect("north", "cut", 2, 300),))
    world.add(Changed(id_, "ntc_2", Words("Later."), later(days=4), later(days=4, hours=1)))
    made = calendar.written("Wallet", "https://s.example", [world.one(id_)], GRAPH, "zh-CN", later(hours=1))
    (event,) = icalendar.Calendar.from_ical(made).walk("VEVENT")
    assert event.decoded("dtstart") == later(days=4)
    assert (event["sequence"], event["status"]) == (1, "CONFIRMED")
    assert "2 次，每次最长 5 分钟" in str(event["description"])
    world.add(Stepped(id_, "ntc_3", "cancelled", "cancelled", Words("Off.")))
    made = calendar.written("Wallet", "https://s.example", [world.one(id_)], GRAPH, "en", later(hours=1))
    (event,) = icalendar.Calendar.from_ical(made).walk("VEVENT")
    assert (event["status"], event["sequence"]) == ("CANCELLED", 2)


@pytest.mark.parametrize("name", ["", "5", "wd", "0h", "-1h", "1500h", "61wd", "1.5h", "5 wd"])
def test_a_reminder_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a time before"):
        reminder(name)


def test_an_overrun_does_not_open_a_second_incident_when_the_service_starts_again() -> None:
    world = World()
    world.plan(timedelta(hours=1))
    for moment in (later(hours=1), later(hours=3), later(hours=4), later(hours=5)):
        world.until(moment)
    assert len(world.board.open) == 1
    again = World()
    again.board = world.board
    again.until(later(hours=6))
    assert len(again.board.incidents) == 1


def test_errors_say_what_to_do() -> None:
    for kind in (SecondPersonNeeded, MaintenanceInvalid, MaintenanceNotSo):
        assert isinstance(kind(), Refused)
        assert kind().message.endswith(".")
