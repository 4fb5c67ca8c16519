"""The packs outside the EU, at every boundary."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.status.rules.assessment import Assessment
from holdfast.status.rules.downtime import Stop
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs import PACKS, assess_all
from holdfast.status.rules.record import Figure, Record, Submitted
from tests.status.rules.worlds import FIRM, T0, at, cost, down, quiet, row

NOW = at(days=2)
HOUR = 3600
HIGH = (249, 250, 251)
GB = Firm(country="GB", zone="Europe/London", tier1_eur=Figure(1_000_000_000))
MODEL_1H = {"resolved": at(seconds=HOUR + 1)}
MODEL = "uk-fca"


def run(pack: str, record: Record, firm: Firm = FIRM, now: datetime = NOW) -> Assessment:
    return PACKS[pack].assess(record, now, firm)


def due(found: Assessment, id_: str) -> datetime | None:
    one = found.deadline(id_)
    assert one is not None
    return one.due


def earlier(seconds: float) -> dict[str, Any]:
    return {"earlier": (Stop(T0 - timedelta(days=30), T0 - timedelta(days=30) + timedelta(seconds=seconds)),)}


@pytest.mark.parametrize(
    ("pack", "test", "record", "met"),
    [
        ("sg-mas", "rolling", down(HOUR, **earlier(3 * HOUR - 1)), False),
        ("sg-mas", "rolling", down(HOUR, **earlier(3 * HOUR)), False),
        ("sg-mas", "rolling", down(HOUR, **earlier(3 * HOUR + 1)), True),
        ("sg-mas", "rolling", down(HOUR, earlier=None), None),
        ("sg-mas", "rolling", down(4 * HOUR + 1, earlier=None), True),
        ("sg-mas", "rolling", down(9 * HOUR, planned=True), False),
        ("sg-mas", "recovery", down(4 * HOUR - 1), False),
        ("sg-mas", "recovery", down(4 * HOUR), False),
        ("sg-mas", "recovery", down(4 * HOUR + 1), True),
        ("my-bnm", "rolling", down(HOUR, **earlier(3 * HOUR - 1)), False),
        ("my-bnm", "rolling", down(HOUR, **earlier(3 * HOUR)), False),
        ("my-bnm", "rolling", down(HOUR, **earlier(3 * HOUR + 1)), True),
        ("my-bnm", "rolling", down(HOUR, earlier=None), None),
        ("my-bnm", "incident", down(2 * HOUR - 1), False),
        ("my-bnm", "incident", down(2 * HOUR), False),
        ("my-bnm", "incident", down(2 * HOUR + 1), True),
        ("my-bnm", "incident", quiet(unavailable=None), None),
        ("cn-pboc", "interrupted", down(2 * HOUR - 1), False),
        ("cn-pboc", "interrupted", down(2 * HOUR), False),
        ("cn-pboc", "interrupted", down(2 * HOUR + 1), True),
        ("cn-pboc", "interrupted", quiet(unavailable=None), None),
        ("cn-pboc", "payments", quiet(rows=(row(payments_affected=99_999),)), False),
        ("cn-pboc", "payments", quiet(rows=(row(payments_affected=100_000),)), False),
        ("cn-pboc", "payments", quiet(rows=(row(payments_affected=100_001),)), True),
        ("cn-pboc", "payments", quiet(rows=None), None),
        ("cn-pboc", "leak.records", quiet(records_leaked=Figure(4_999)), False),
        ("cn-pboc", "leak.records", quiet(records_leaked=Figure(5_000)), False),
        ("cn-pboc", "leak.records", quiet(records_leaked=Figure(5_001)), True),
        ("cn-pboc", "leak.records", quiet(records_leaked=None), None),
        ("cn-pboc", "leak.customers", quiet(customers_leaked=Figure(499)), False),
        ("cn-pboc", "leak.customers", quiet(customers_leaked=Figure(500)), False),
        ("cn-pboc", "leak.customers", quiet(customers_leaked=Figure(501)), True),
        ("cn-pboc", "peak.provinces", down(3 * HOUR - 1, peak=True, provinces=("ZJ", "JS")), False),
        ("cn-pboc", "peak.provinces", down(3 * HOUR, peak=True, provinces=("ZJ", "JS")), True),
        ("cn-pboc", "peak.provinces", down(3 * HOUR, peak=True, provinces=("ZJ",)), False),
        ("cn-pboc", "peak.provinces", down(3 * HOUR, peak=None, provinces=("ZJ", "JS")), None),
        ("cn-pboc", "peak.provinces", down(3 * HOUR, peak=False, provinces=("ZJ", "JS")), False),
        ("cn-pboc", "peak.province", down(6 * HOUR - 1, peak=True, provinces=("ZJ",)), False),
        ("cn-pboc", "peak.province", down(6 * HOUR, peak=True, provinces=("ZJ",)), True),
        ("cn-pboc", "peak.province", down(6 * HOUR, peak=True, provinces=None), None),
    ],
)
def test_each_number_is_met_where_the_rule_says_and_unknown_where_it_is(
    pack: str, test: str, record: Record, met: bool | None
) -> None:
    assert run(pack, record).test(test).met is met


@pytest.mark.parametrize(
    ("pack", "fact", "test", "grade"),
    [
        ("sg-mas", "severe_widespread", "severe", "reportable"),
        ("sg-mas", "material_service", "material", "reportable"),
        ("in-rbi", "settlement_delayed", "settlement", "reportable"),
        ("in-rbi", "fraud", "fraud", "reportable"),
        ("in-rbi", "malicious_access", "attack", "reportable"),
        ("cn-pboc", "publicity", "publicity", "reportable"),
        ("cn-pboc", "duplicate_settlement", "duplicate", "reportable"),
    ],
)
def test_one_fact_makes_it_reportable_and_one_unknown_leaves_it_unknown(
    pack: str, fact: str, test: str, grade: str
) -> None:
    for value, expected in ((True, grade), (False, "not_reportable"), (None, "unknown")):
        found = run(pack, quiet(**{fact: value}))
        assert (found.test(test).met, found.grade) == (value, expected)
        assert bool(found.deadlines) is (value is not False)


def test_an_outage_of_a_critical_system_is_reportable_in_india() -> None:
    assert run("in-rbi", down(60)).grade == "reportable"
    assert run("in-rbi", down(60, supports_critical_function=False)).grade == "not_reportable"
    assert run("in-rbi", quiet(unavailable=None)).grade == "unknown"


def test_singapore_wants_to_know_within_an_hour_and_the_cause_within_14_days() -> None:
    found = run("sg-mas", quiet(material_service=True))
    assert (due(found, "initial"), due(found, "final")) == (at(hours=1), at(days=14))
    assert run("sg-mas", down(5 * HOUR)).grade == "exceeded"


def test_malaysia_has_two_allowances_and_no_confirmed_deadline() -> None:
    found = run("my-bnm", down(2 * HOUR + 1))
    assert (found.grade, found.deadlines, bool(found.notes)) == ("exceeded", (), True)


def test_india_wants_to_know_within_six_hours_of_detection() -> None:
    found = run("in-rbi", quiet(fraud=True, occurred=at(hours=-3)))
    assert (due(found, "initial"), due(found, "cert-in")) == (at(hours=6), at(hours=6))
    assert [one.sure for one in found.deadlines] == [True, False]


@pytest.mark.parametrize(
    ("size", "since"),
    [("large", date(2025, 4, 1)), ("medium", date(2026, 4, 1)), ("small", date(2028, 4, 1))],
)
def test_india_holds_from_a_day_that_depends_on_size(size: str, since: date) -> None:
    found = run("in-rbi", quiet(fraud=True), replace(FIRM, india_size=size))
    assert (found.in_force_from, found.in_force) == (since, since <= T0.date())


def test_china_has_half_an_hour_and_two_hours_neither_of_them_sure() -> None:
    found = run("cn-pboc", quiet(publicity=True))
    assert [one.due for one in found.deadlines] == [at(minutes=30), at(hours=2), at(hours=2)]
    assert not any(one.sure for one in found.deadlines)


@pytest.mark.parametrize(("day", "grade"), [(31, "reportable"), (32, "especially_major")])
def test_the_chinese_order_grades_from_1_august_2025(day: int, grade: str) -> None:
    start = datetime(2025, 7, 1, 2, tzinfo=UTC) + timedelta(days=day - 1)
    end = start + timedelta(hours=6)
    record = quiet(
        occurred=start, detected=start, aware=start, partly_unavailable_from=start, restored=end,
        resolved=end, peak=True, provinces=("ZJ",),
    )  # fmt: skip
    assert run("cn-pboc", record).grade == grade


def users(count: float) -> dict[str, Any]:
    return {"rows": (row(clients_affected=count),)}


def ratio(affected: str, whole: str, number: float) -> dict[str, Any]:
    return {"rows": (row(**{affected: number, whole: 1000}),)}


@pytest.mark.parametrize(
    ("test", "below", "at_it", "above"),
    [
        ("tx.share", *(ratio("payments_affected", "usual_daily_count", one) for one in (99, 100, 101))),
        ("tx.share.high", *(ratio("payments_affected", "usual_daily_count", one) for one in HIGH)),
        ("tx.value", *({"rows": (row(value_affected=one),)} for one in (499_999, 500_000, 500_001))),
        ("tx.value.high", *({"rows": (row(value_affected=one),)} for one in (14_999_999, 15e6, 15_000_001))),
        ("users.count", users(4_999), users(5_000), users(5_001)),
        ("users.count.high", users(49_999), users(50_000), users(50_001)),
        ("users.share", *(ratio("clients_affected", "clients_of_service", one) for one in (99, 100, 101))),
        ("users.share.high", *(ratio("clients_affected", "clients_of_service", one) for one in HIGH)),
        ("economic.tier1.high", *({"costs": cost(one)} for one in (999_999, 1_000_000, 1_000_001))),
        ("economic.high", *({"costs": cost(one)} for one in (4_999_999, 5_000_000, 5_000_001))),
    ],
)  # fmt: skip
def test_the_british_model_is_met_just_above_each_number(
    test: str, below: dict[str, Any], at_it: dict[str, Any], above: dict[str, Any]
) -> None:
    answers = [run(MODEL, quiet(**MODEL_1H, **one), GB).test(test).met for one in (below, at_it, above)]
    assert answers == [False, False, True]


@pytest.mark.parametrize(
    ("seconds", "cause", "met"),
    [(HOUR, "technical", False), (HOUR + 1, "technical", True), (60, "security", True)],
)
def test_lower_numbers_count_after_one_hour_unless_it_is_about_security(
    seconds: float, cause: str, met: bool
) -> None:
    record = quiet(resolved=at(seconds=seconds), cause=cause, **users(5_001))
    assert run(MODEL, record, GB).test("users.count").met is met


@pytest.mark.parametrize(("seconds", "met"), [(2 * HOUR - 1, False), (2 * HOUR, False), (2 * HOUR + 1, True)])
def test_the_british_model_counts_downtime_from_more_than_two_hours(seconds: float, met: bool) -> None:
    assert run(MODEL, down(seconds), GB).test("downtime").met is met


@pytest.mark.parametrize(
    ("fact", "test"),
    [
        ("malicious_access", "breach"),
        ("escalated", "escalation"),
        ("crisis_mode", "escalation.high"),
        ("other_firms", "others"),
        ("media", "reputation"),
    ],
)
def test_the_british_model_knows_facts(fact: str, test: str) -> None:
    for value in (True, False, None):
        assert run(MODEL, quiet(**{fact: value}), GB).test(test).met is value


@pytest.mark.parametrize(
    ("facts", "grade"),
    [
        ({}, "not_major"),
        ({"crisis_mode": True}, "major"),
        ({"media": True, "other_firms": True}, "not_major"),
        ({"media": True, "other_firms": True, "escalated": True}, "major"),
        ({"media": True, "other_firms": True, "escalated": None}, "unknown"),
    ],
)
def test_the_british_model_wants_one_higher_or_three_lower(facts: dict[str, Any], grade: str) -> None:
    assert run(MODEL, quiet(**facts), GB).grade == grade


def test_without_tier_1_capital_the_relative_number_stays_unknown_above_its_floor() -> None:
    bare = replace(GB, tier1_eur=None)
    for eur, met in ((200_000, False), (200_001, None)):
        assert run(MODEL, quiet(costs=cost(eur)), bare).test("economic.tier1.high").met is met


def test_value_in_pounds_needs_a_rate() -> None:
    record = quiet(**MODEL_1H, rows=(row(value_affected=450_000),))
    for rate, met in ((None, None), (Figure(1.2), True), (Figure(1.1), False)):
        firm = replace(GB, currency="GBP", eur_per_unit=rate)
        assert run(MODEL, record, firm).test("tx.value").met is met


def test_the_british_model_counts_working_days() -> None:
    thursday = datetime(2026, 12, 24, 9, tzinfo=UTC)
    record = quiet(
        occurred=thursday, detected=thursday, aware=thursday, classified=thursday, crisis_mode=True,
        partly_unavailable_from=thursday, restored=thursday, resolved=thursday,
        submitted=Submitted(initial_at=thursday),
    )  # fmt: skip
    found = run(MODEL, record, GB, thursday)
    assert due(found, "classify") == thursday + timedelta(hours=24)
    assert due(found, "initial") == thursday + timedelta(hours=4)
    assert due(found, "intermediate") == datetime(2026, 12, 31, 9, tzinfo=UTC)
    assert due(found, "final") == datetime(2027, 1, 26, 9, tzinfo=UTC)
    assert not any(one.sure for one in found.deadlines)


@pytest.mark.parametrize(("day", "new"), [(17, False), (18, True)])
def test_the_new_british_rules_hold_from_18_march_2027(day: int, new: bool) -> None:
    start = datetime(2027, 3, day, 9, tzinfo=UTC)
    times = {"occurred": start, "detected": start, "aware": start, "resolved": start}
    found = run(MODEL, quiet(**times, harm_consumers=True, crisis_mode=True), GB, start)
    assert (found.in_force, found.grade) == (new, "reportable" if new else "major")
    assert due(found, "initial") == start + timedelta(hours=4 if new else 28)


@pytest.mark.parametrize("fact", ["harm_consumers", "harm_market", "harm_soundness"])
def test_each_harm_makes_it_reportable_in_britain_and_none_of_it_is_sure(fact: str) -> None:
    start = datetime(2027, 4, 1, 9, tzinfo=UTC)
    facts: dict[str, Any] = {"occurred": start, "detected": start, "aware": start, "resolved": start}
    calm: dict[str, Any] = {"harm_consumers": False, "harm_market": False, "harm_soundness": False}
    for value, grade in ((True, "reportable"), (False, "not_reportable"), (None, "unknown")):
        found = run(MODEL, quiet(**{**facts, **calm, fact: value}), GB, start)
        assert found.grade == grade
        assert not any(test.sure for test in found.tests)


def test_every_pack_answers_an_empty_record_with_unknown_in_both_languages() -> None:
    for found in assess_all(Record(id="x"), NOW, FIRM):
        assert found.grade == "unknown", found.pack
        assert all(test.met is None and test.words.zh and test.source for test in found.tests)
        assert all(one.words.zh and one.source for one in found.deadlines)
        assert found.name.zh
