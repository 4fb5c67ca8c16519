"""The EU's classifier and its deadlines, at every boundary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.status.rules.errors import CountryUnknown
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs.eu_dora import STATES, assess, is_major
from holdfast.status.rules.packs.recurring import recurring
from holdfast.status.rules.record import Cost, Figure, Message, Record, Submitted, downtime
from tests.status.rules.worlds import FIRM, T0, at, cost, down, quiet, row

NOW = at(days=2)
HOUR = 3600


def part(affected: str, whole: str, number: float) -> dict[str, Any]:
    return {"rows": (row(**{affected: number, whole: 1000}),)}


def counterparts(number: float) -> dict[str, Any]:
    return {"counterparts_affected": Figure(number), "counterparts_of_service": Figure(1000)}


@pytest.mark.parametrize(
    ("name", "changes", "met"),
    [
        ("T1.clients_share", part("clients_affected", "clients_of_service", 99), False),
        ("T1.clients_share", part("clients_affected", "clients_of_service", 100), False),
        ("T1.clients_share", part("clients_affected", "clients_of_service", 101), True),
        ("T1.clients", {"rows": (row(clients_affected=99_999),)}, False),
        ("T1.clients", {"rows": (row(clients_affected=100_000),)}, False),
        ("T1.clients", {"rows": (row(clients_affected=100_001),)}, True),
        ("T1.counterparts", counterparts(299), False),
        ("T1.counterparts", counterparts(300), False),
        ("T1.counterparts", counterparts(301), True),
        ("T1.count", part("payments_affected", "usual_daily_count", 99), False),
        ("T1.count", part("payments_affected", "usual_daily_count", 100), False),
        ("T1.count", part("payments_affected", "usual_daily_count", 101), True),
        ("T1.value", part("value_affected", "usual_daily_value", 99.99), False),
        ("T1.value", part("value_affected", "usual_daily_value", 100), False),
        ("T1.value", part("value_affected", "usual_daily_value", 100.01), True),
        ("T3.duration", {"resolved": at(seconds=24 * HOUR - 1)}, False),
        ("T3.duration", {"resolved": at(seconds=24 * HOUR)}, False),
        ("T3.duration", {"resolved": at(seconds=24 * HOUR + 1)}, True),
        ("T4", {"countries": ("DE",)}, False),
        ("T4", {"countries": ("DE", "FR")}, True),
        ("T4", {"countries": ("DE", "FR", "IT")}, True),
        ("T4", {"countries": ("DE", "CH", "GB", "NO")}, False),
        ("T6", {"costs": cost(99_999.99)}, False),
        ("T6", {"costs": cost(100_000)}, False),
        ("T6", {"costs": cost(100_000.01)}, True),
    ],
)
def test_each_number_of_article_9_is_met_just_above_it_and_not_at_it(
    name: str, changes: dict[str, Any], met: bool
) -> None:
    assert assess(quiet(**changes), NOW, FIRM).test(name).met is met


@pytest.mark.parametrize(("seconds", "met"), [(2 * HOUR - 1, False), (2 * HOUR, False), (2 * HOUR + 1, True)])
def test_downtime_counts_from_more_than_two_hours(seconds: float, met: bool) -> None:
    assert assess(down(seconds), NOW, FIRM).test("T3.downtime").met is met


@pytest.mark.parametrize(("critical", "met"), [(True, True), (False, False), (None, None)])
def test_downtime_counts_only_for_what_supports_critical_functions(
    critical: bool | None, met: bool | None
) -> None:
    record = down(3 * HOUR, supports_critical_function=critical)
    assert assess(record, NOW, FIRM).test("T3.downtime").met is met


@pytest.mark.parametrize(
    ("fact", "name"),
    [
        ("supports_critical_function", "critical.function"),
        ("supervised_service", "critical.service"),
        ("malicious_access", "critical.access"),
        ("relevant_affected", "T1.relevant"),
        ("media", "T2.media"),
        ("complaints", "T2.complaints"),
        ("regulatory", "T2.regulatory"),
        ("lost_clients", "T2.lost_clients"),
        ("availability", "T5a"),
        ("authenticity", "T5a"),
        ("integrity", "T5a"),
        ("confidentiality", "T5a"),
        ("malicious_access", "T5b"),
    ],
)
def test_each_fact_counts_when_true_and_is_unknown_when_unknown(fact: str, name: str) -> None:
    for value in (True, False, None):
        assert assess(quiet(**{fact: value}), NOW, FIRM).test(name).met is value


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("T1.clients_share", {"rows": (row(clients_affected=5),)}),
        ("T1.clients", {"rows": None}),
        ("T1.clients", {"rows": (row(clients_affected=5), row("FR"))}),
        ("T1.counterparts", {"counterparts_affected": None}),
        ("T1.count", {"rows": (row(payments_affected=5, usual_daily_count=None),)}),
        ("T1.count", {"rows": (row(payments_affected=5, usual_daily_count=0),)}),
        ("T1.value", {"rows": None}),
        ("T3.duration", {"occurred": None, "detected": None, "aware": None}),
        ("T3.downtime", {"unavailable": None}),
        ("T4", {"countries": None}),
        ("T6", {"costs": None}),
    ],
)
def test_an_unknown_number_is_unknown_and_never_not_met(name: str, changes: dict[str, Any]) -> None:
    test = assess(quiet(**changes), NOW, FIRM).test(name)
    assert test.met is None
    assert "known" in test.margin.en
    assert test.margin.zh


def test_a_part_of_a_sum_that_is_enough_alone_meets_the_threshold() -> None:
    rows = (row(clients_affected=100_001), row("FR"))
    assert assess(quiet(rows=rows), NOW, FIRM).test("T1.clients").met is True


def test_countries_of_one_service_add_up() -> None:
    rows = (row(clients_affected=60_000), row("FR", clients_affected=40_001))
    assert assess(quiet(rows=rows), NOW, FIRM).test("T1.clients").met is True


def test_payments_left_in_a_queue_keep_the_clock_running_after_the_service_is_back() -> None:
    record = down(HOUR, backlog=True)
    assert assess(record, at(hours=2), FIRM).test("T3.downtime").met is False
    assert assess(record, at(hours=2, seconds=1), FIRM).test("T3.downtime").met is True
    assert downtime(record, at(hours=5)) == timedelta(hours=5)
    drained = down(HOUR, backlog_drained=at(hours=3), resolved=at(hours=3))
    assert downtime(drained, at(hours=5)) == timedelta(hours=3)
    assert assess(drained, at(hours=5), FIRM).test("T3.downtime").met is True


def test_a_backlog_nobody_spoke_of_leaves_the_downtime_open() -> None:
    record = down(HOUR, backlog=None)
    test = assess(record, at(hours=3), FIRM).test("T3.downtime")
    assert (test.met, test.estimated) == (None, True)
    assert assess(record, at(hours=1.5), FIRM).test("T3.downtime").met is False


def test_a_running_clock_says_when_it_will_tip() -> None:
    record = quiet(partly_unavailable_from=T0, resolved=None)
    test = assess(record, at(minutes=30), FIRM).test("T3.downtime")
    assert (test.met, test.short, test.tips_at) == (False, 5400, at(hours=2))


ALL = ("critical", "T1", "T2", "T3", "T4", "T5a", "T5b", "T6")


@pytest.mark.parametrize(
    ("yes", "unknown", "major"),
    [
        ("critical", "", False),
        ("critical T1", "", False),
        ("critical T1 T2", "", True),
        ("critical T4 T6", "", True),
        ("critical T5a T3", "", True),
        ("critical T5b", "", True),
        ("critical T5a", "", False),
        ("T1 T2 T3 T4 T5a T5b T6", "", False),
        ("critical T1", "T2", None),
        ("critical", "T1", False),
        ("critical", "T5b", None),
        ("T1 T2", "critical", None),
        ("critical T1 T2", "T3 T4 T5b", True),
    ],
)
def test_major_is_critical_services_and_malicious_access_or_two_thresholds(
    yes: str, unknown: str, major: bool | None
) -> None:
    criteria = {name: None if name in unknown.split() else name in yes.split() for name in ALL}
    assert is_major(criteria) is major


def test_the_assessment_names_what_alone_would_tip_it() -> None:
    found = assess(quiet(media=True), NOW, FIRM)
    assert found.grade == "not_major"
    assert set(found.tipping) == {"T1", "T3", "T4", "T5a", "T5b", "T6"}
    assert found.deadlines == ()


def test_an_estimate_decides_and_is_marked() -> None:
    found = assess(quiet(media=True, costs=cost(200_000, estimated=True)), NOW, FIRM)
    assert (found.grade, found.estimated, found.test("T6").estimated) == ("major", True, True)


def test_every_threshold_names_its_law_and_article() -> None:
    assert all("Article" in test.source and test.words.zh for test in assess(quiet(), NOW, FIRM).tests)
    assert len(STATES) == 27


def due(record: Record, id_: str, firm: Firm = FIRM, now: datetime = NOW) -> datetime | None:
    one = assess(record, now, firm).deadline(id_)
    assert one is not None
    return one.due


def major(**changes: Any) -> Record:
    return quiet(media=True, countries=("DE", "FR"), **changes)


@pytest.mark.parametrize(
    ("classified_h", "due_h"),
    [(1, 5), (19.9, 23.9), (20, 24), (20.1, 24), (23.9, 24), (24, 24), (24.1, 28.1), (40, 44)],
)
def test_the_initial_notification_is_due_after_4_hours_within_24_unless_classified_later(
    classified_h: float, due_h: float
) -> None:
    assert due(major(classified=at(hours=classified_h)), "initial") == at(hours=due_h)


def test_before_it_is_classified_the_outer_limit_of_24_hours_stands() -> None:
    assert due(major(), "initial") == at(hours=24)
    assert due(major(aware=None, detected=None), "initial") is None


def test_the_intermediate_report_is_due_72_hours_after_the_initial_was_sent() -> None:
    sent = major(classified=at(hours=1), submitted=Submitted(initial_at=at(hours=2)))
    assert due(sent, "intermediate") == at(hours=74)
    planned = assess(major(classified=at(hours=1)), NOW, FIRM).deadline("intermediate")
    assert planned is not None
    assert (planned.due, planned.projected) == (at(hours=77), True)


def final(sent: datetime, updated: datetime | None = None, firm: Firm = FIRM) -> datetime | None:
    steps = Submitted(initial_at=T0, intermediate_at=sent, updated_at=updated)
    return due(major(classified=T0, submitted=steps), "final", firm)


def test_the_final_report_is_due_one_calendar_month_after_the_latest_intermediate() -> None:
    assert final(datetime(2026, 6, 12, 9, tzinfo=UTC)) == datetime(2026, 7, 13, 10, tzinfo=UTC)  # a Sunday
    later = datetime(2026, 6, 16, 9, tzinfo=UTC)
    assert final(datetime(2026, 6, 12, 9, tzinfo=UTC), later) == datetime(2026, 7, 16, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sent", "due_at"),
    [
        (datetime(2028, 1, 31, 9, tzinfo=UTC), datetime(2028, 2, 29, 9, tzinfo=UTC)),
        (datetime(2029, 1, 31, 9, tzinfo=UTC), datetime(2029, 2, 28, 9, tzinfo=UTC)),
        (datetime(2027, 8, 31, 9, tzinfo=UTC), datetime(2027, 9, 30, 9, tzinfo=UTC)),
        (datetime(2026, 3, 13, 9, tzinfo=UTC), datetime(2026, 4, 13, 8, tzinfo=UTC)),
    ],
)
def test_a_month_ends_on_the_last_day_of_a_short_one_and_keeps_local_time(
    sent: datetime, due_at: datetime
) -> None:
    assert final(sent) == due_at


@pytest.mark.parametrize(
    ("classified", "due_at"),
    [
        (datetime(2026, 6, 12, 17, tzinfo=UTC), datetime(2026, 6, 12, 21, tzinfo=UTC)),  # Friday, 23:00 there
        (datetime(2026, 6, 12, 18, tzinfo=UTC), datetime(2026, 6, 15, 10, tzinfo=UTC)),  # Saturday 0:00 there
        (datetime(2026, 6, 14, 9, tzinfo=UTC), datetime(2026, 6, 15, 10, tzinfo=UTC)),  # Sunday
        (datetime(2026, 6, 14, 17, tzinfo=UTC), datetime(2026, 6, 15, 10, tzinfo=UTC)),
        (datetime(2026, 6, 14, 18, tzinfo=UTC), datetime(2026, 6, 14, 22, tzinfo=UTC)),  # Monday 0:00 there
        (datetime(2026, 4, 3, 9, tzinfo=UTC), datetime(2026, 4, 7, 10, tzinfo=UTC)),  # Good Friday to Tuesday
        (datetime(2026, 12, 25, 9, tzinfo=UTC), datetime(2026, 12, 28, 11, tzinfo=UTC)),  # Christmas, winter
    ],
)
def test_a_day_off_moves_a_deadline_to_noon_of_the_next_working_day_there(
    classified: datetime, due_at: datetime
) -> None:
    times = {"occurred": classified, "detected": classified, "aware": classified, "classified": classified}
    one = assess(major(**times, resolved=None), classified, FIRM).deadline("initial")
    assert one is not None
    assert (one.due, one.moved) == (due_at, due_at - classified != timedelta(hours=4))


@pytest.mark.parametrize(
    "firm",
    [
        replace(FIRM, kinds=("credit institution",)),
        replace(FIRM, kinds=("central counterparty",)),
        replace(FIRM, kinds=("trading venue",)),
        replace(FIRM, nis2=True),
        replace(FIRM, designated=True),
    ],
)
def test_weekends_move_nothing_but_the_final_report_for_firms_of_weight(firm: Firm) -> None:
    saturday = datetime(2026, 6, 13, 9, tzinfo=UTC)
    record = major(occurred=saturday, detected=saturday, aware=saturday, classified=saturday, resolved=None)
    assert due(record, "initial", firm) == saturday + timedelta(hours=4)
    thursday = replace(record, submitted=Submitted(initial_at=saturday - timedelta(days=2, hours=-4)))
    assert due(thursday, "intermediate", firm) == saturday + timedelta(days=1, hours=4)
    assert final(datetime(2026, 6, 12, 9, tzinfo=UTC), firm=firm) == datetime(2026, 7, 13, 10, tzinfo=UTC)


def test_the_intermediate_report_moves_over_a_weekend_too() -> None:
    thursday = datetime(2026, 6, 11, 9, tzinfo=UTC)
    record = major(classified=T0, submitted=Submitted(initial_at=thursday))
    assert due(record, "intermediate") == datetime(2026, 6, 15, 10, tzinfo=UTC)


def test_recovery_asks_for_an_updated_report_and_clients_are_told() -> None:
    steps = Submitted(initial_at=at(minutes=1), intermediate_at=at(minutes=5))
    told = (Message(at(minutes=3), "clients", "We are on it."),)
    record = down(600, media=True, countries=("DE", "FR"), submitted=steps, financial_interest=True, log=told)
    found = assess(record, NOW, FIRM)
    update, clients = found.deadline("update"), found.deadline("clients")
    assert update is not None
    assert clients is not None
    assert (update.due, update.late, clients.done_at) == (at(minutes=10), True, at(minutes=3))


def test_what_remains_is_counted_down_and_below_zero() -> None:
    for hours, late in ((4, False), (6, True)):
        one = assess(major(classified=at(hours=1)), at(hours=hours), FIRM).deadline("initial")
        assert one is not None
        assert (one.remaining, one.late) == (timedelta(hours=5 - hours), late)


def test_a_country_without_a_calendar_is_refused() -> None:
    with pytest.raises(CountryUnknown):
        assess(major(), NOW, replace(FIRM, country="XX"))
    with pytest.raises(CountryUnknown):
        assess(major(), NOW, replace(FIRM, zone="Europe/Nowhere"))


def twice(days: int, **changes: Any) -> tuple[Record, Record]:
    first = down(4000, root_cause="disk", costs=(Cost("staff", Figure(60_000)),), **changes)
    start = T0 + timedelta(days=days)
    end = start + timedelta(seconds=4000)
    times = {"occurred": start, "detected": start, "aware": start, "partly_unavailable_from": start}
    return first, replace(first, id="inc-2", restored=end, resolved=end, **times)


def test_recurring_incidents_are_one_major_one_when_they_are_so_together() -> None:
    (found,) = recurring(twice(30), at(days=40), FIRM)
    assert (found.ids, found.assessment.grade) == (("inc-1", "inc-2"), "major")
    assert found.assessment.test("T6").number == 120_000
    assert found.assessment.test("T3.downtime").number == 8_000


@pytest.mark.parametrize(("days", "groups"), [(183, 1), (184, 0)])
def test_recurring_means_within_six_calendar_months(days: int, groups: int) -> None:
    assert len(recurring(twice(days), at(days=200), FIRM)) == groups


def test_recurring_needs_one_cause_and_spares_small_firms() -> None:
    first, second = twice(30)
    assert recurring((first, replace(second, root_cause="net")), at(days=40), FIRM) == ()
    assert recurring((first, second), at(days=40), replace(FIRM, micro=True)) == ()
    assert recurring((first, second), at(days=40), replace(FIRM, simplified=True)) == ()
