"""China: 非银行支付机构重大事项报告管理办法 (since 1 September 2021), and order [2025] No. 4.

The order is 中国人民银行业务领域网络安全事件报告管理办法, in force 1 August 2025. It has four grades;
only the highest is known here. Its time limits are those of the draft; the two hours of class one are from
memory.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from holdfast.status.rules.assessment import (
    Assessment,
    Deadline,
    Grade,
    Threshold,
    all_of,
    any_of,
    deadline,
    flag,
    only_if,
    over,
)
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.record import Bounds, Record, column, known_at, outage_bounds
from holdfast.status.words import Words

ID: Final = "cn-pboc"
NAME: Final = Words("China: PBoC", "中国：中国人民银行")
IN_FORCE: Final = date(2021, 9, 1)
ORDER_IN_FORCE: Final = date(2025, 8, 1)
MATTERS: Final = "非银行支付机构重大事项报告管理办法"
ORDER: Final = "中国人民银行令〔2025〕第4号"


def assess(record: Record, now: datetime, firm: Firm) -> Assessment:  # noqa: ARG001
    """Return whether it is a matter to report, and whether the highest grade of the order is reached."""
    tests = (*_matters(record, now), *_order(record, now))
    known = known_at(record)
    ordered = (known or now).date() >= ORDER_IN_FORCE
    gravest = any_of(test.met for test in tests[-2:]) if ordered else False
    told = any_of(test.met for test in tests[:-2])
    grade: Grade = "not_reportable"
    if gravest:
        grade = "especially_major"
    elif told:
        grade = "reportable"
    elif told is None or gravest is None:
        grade = "unknown"
    lowest = told is not True and not gravest
    return Assessment(
        pack=ID,
        name=NAME,
        grade=grade,
        tests=tests,
        deadlines=() if grade == "not_reportable" else _deadlines(record, now, known),
        at=now,
        in_force_from=IN_FORCE,
        in_force=(known or now).date() >= IN_FORCE,
        tipping=tuple(test.id for test in tests) if lowest else (),
        notes=(
            Words(
                "The three lower grades of the order of 2025 are not known here: read them in any case.",
                "2025 年第 4 号令的较低三级标准未能确认，无论此处结果如何请查阅原文。",
            ),
        ),
    )


def _matters(record: Record, now: datetime) -> tuple[Threshold, ...]:
    payments = Bounds(0, 0) if record.rows == () else column(record.rows or (), "payments_affected")
    runs = now if record.partly_unavailable_from and record.restored is None else None
    return (
        over(
            "interrupted",
            Words("payment business interrupted", "支付业务中断"),
            outage_bounds(record, now),
            2 * 3600,
            "seconds",
            MATTERS,
            runs_from=runs,
        ),
        over("payments", Words("payments affected", "受影响支付笔数"), payments, 100_000, "count", MATTERS),
        flag(
            "publicity",
            Words("major adverse publicity possible", "可能引发重大负面舆情"),
            record.publicity,
            MATTERS,
        ),
        over(
            "leak.records",
            Words("records leaked", "泄露信息条数"),
            Bounds.of(record.records_leaked),
            5_000,
            "count",
            MATTERS,
        ),
        over(
            "leak.customers",
            Words("customers whose data leaked", "信息泄露涉及客户数"),
            Bounds.of(record.customers_leaked),
            500,
            "count",
            MATTERS,
        ),
        flag("duplicate", Words("settled twice", "重复清算"), record.duplicate_settlement, MATTERS),
    )


def _order(record: Record, now: datetime) -> tuple[Threshold, ...]:
    """At the peak of business: 3 hours in two provinces, or 6 in one. Both are 'that long or longer'."""
    outage = outage_bounds(record, now)
    runs = now if record.partly_unavailable_from and record.restored is None else None
    provinces = None if record.provinces is None else len(set(record.provinces))

    def one(id_: str, words: Words, hours: int, least: int) -> Threshold:
        clock = over(id_, words, outage, hours * 3600, "seconds", ORDER, at_least=True, runs_from=runs)
        wide = None if provinces is None else provinces >= least
        return only_if(clock, all_of((record.peak, wide)))

    return (
        one("peak.provinces", Words("at peak, in two provinces or more", "业务高峰期、两个以上省份"), 3, 2),
        one("peak.province", Words("at peak, in one province", "业务高峰期、一个省份"), 6, 1),
    )


def _deadlines(record: Record, now: datetime, known: datetime | None) -> tuple[Deadline, ...]:
    def after(**span: float) -> datetime | None:
        return known + timedelta(**span) if known else None

    sent = record.submitted
    return (
        deadline(
            "brief",
            Words("brief report: 30 minutes (draft)", "简要报告：30 分钟内（征求意见稿）"),
            after(minutes=30),
            now,
            ORDER,
            done_at=sent.initial_at,
            sure=False,
        ),
        deadline(
            "report",
            Words("incident report: 2 hours (draft)", "事件报告：2 小时内（征求意见稿）"),
            after(hours=2),
            now,
            ORDER,
            done_at=sent.intermediate_at,
            sure=False,
        ),
        deadline(
            "class-one",
            Words("matter of class one: 2 hours", "一类事项：2 小时内"),
            after(hours=2),
            now,
            MATTERS,
            done_at=sent.initial_at,
            sure=False,
        ),
    )
