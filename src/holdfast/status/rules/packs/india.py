"""India: Reserve Bank, Master Directions of 30 July 2024 for non-bank payment system operators.

Unusual incidents, among them an outage of a critical system, delay of settlement and fraud: within 6 hours of
detection. In force by size: large 1 April 2025, medium 1 April 2026, small 1 April 2028.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from holdfast.status.rules.assessment import Assessment, Grade, all_of, any_of, deadline, flag
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.record import Record, known_at
from holdfast.status.words import Words

ID: Final = "in-rbi"
NAME: Final = Words("India: RBI", "印度：储备银行")
SOURCE: Final = "RBI Master Directions of 30 July 2024 (non-bank payment system operators)"
IN_FORCE: Final = {"large": date(2025, 4, 1), "medium": date(2026, 4, 1), "small": date(2028, 4, 1)}


def assess(record: Record, now: datetime, firm: Firm) -> Assessment:
    """Return whether it must be told within six hours. `Firm.india_size` says from when the rules hold."""
    down = True if record.partly_unavailable_from else (False if record.unavailable is False else None)
    tests = (
        flag(
            "outage",
            Words("outage of a critical system", "关键系统中断"),
            all_of((record.supports_critical_function, down)),
            SOURCE,
        ),
        flag("settlement", Words("settlement delayed", "结算延迟"), record.settlement_delayed, SOURCE),
        flag("fraud", Words("fraud", "欺诈"), record.fraud, SOURCE),
        flag("attack", Words("a cyber attack", "网络攻击"), record.malicious_access, SOURCE, sure=False),
    )
    told = any_of(test.met for test in tests)
    grade: Grade = "reportable" if told else "unknown" if told is None else "not_reportable"
    found = record.detected or known_at(record)
    limit = found + timedelta(hours=6) if found else None
    due = (
        ()
        if told is False
        else (
            deadline(
                "initial",
                Words("tell the Reserve Bank: 6 hours after detection", "发现后 6 小时内报告储备银行"),
                limit,
                now,
                SOURCE,
                done_at=record.submitted.initial_at,
            ),
            deadline(
                "cert-in",
                Words("tell CERT-In: 6 hours", "6 小时内报告 CERT-In"),
                limit,
                now,
                "CERT-In directions; the hours are not confirmed",
                sure=False,
            ),
        )
    )
    since = IN_FORCE.get(firm.india_size, IN_FORCE["large"])
    return Assessment(
        pack=ID,
        name=NAME,
        grade=grade,
        tests=tests,
        deadlines=due,
        at=now,
        in_force_from=since,
        in_force=(found or now).date() >= since,
        in_force_sure=False,
        tipping=() if told else tuple(test.id for test in tests),
    )
