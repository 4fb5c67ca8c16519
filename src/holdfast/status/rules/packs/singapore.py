"""Singapore: the Monetary Authority's notices on technology risk management (FSM-N series; PSN05).

For each critical system: at most 4 hours of unscheduled downtime in any 12 months, restored within 4 hours,
told within 1 hour of discovery, root cause within 14 days. How downtime is to be counted was under
consultation from June 2026; here it is the time during which the service was not, or not fully, there.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from holdfast.status.rules.assessment import Assessment, Grade, Threshold, any_of, deadline, flag, over
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs.rolling import rolling
from holdfast.status.rules.record import Bounds, Record, known_at, outage_bounds
from holdfast.status.words import Words

ID: Final = "sg-mas"
NAME: Final = Words("Singapore: MAS", "新加坡：金融管理局")
IN_FORCE: Final = date(2024, 5, 10)
SOURCE: Final = "MAS notices on technology risk management (FSM-N series, PSN05)"
ALLOWED_S: Final = 4 * 3600


def assess(record: Record, now: datetime, firm: Firm) -> Assessment:  # noqa: ARG001
    """Return whether it must be told, and how the yearly allowance stands. The firm does not matter here."""
    tests = _tests(record, now)
    relevant = any_of(test.met for test in tests[:2])
    grade: Grade = "reportable" if relevant else "unknown" if relevant is None else "not_reportable"
    if not relevant and any_of(test.met for test in tests[2:]):
        grade = "exceeded"
    found = known_at(record) if record.detected is None else record.detected
    due = (
        ()
        if relevant is False
        else (
            deadline(
                "initial",
                Words("tell the authority: 1 hour after discovery", "发现后 1 小时内通知监管机构"),
                found + timedelta(hours=1) if found else None,
                now,
                SOURCE,
                done_at=record.submitted.initial_at,
            ),
            deadline(
                "final",
                Words("root cause and impact: 14 days after discovery", "发现后 14 天内提交根因分析"),
                found + timedelta(days=14) if found else None,
                now,
                SOURCE,
                sure=False,
                done_at=record.submitted.final_at,
            ),
        )
    )
    return Assessment(
        pack=ID,
        name=NAME,
        grade=grade,
        tests=tests,
        deadlines=due,
        at=now,
        in_force_from=IN_FORCE,
        in_force=(found or now).date() >= IN_FORCE,
        in_force_sure=False,
        tipping=() if relevant else tuple(test.id for test in tests[:2]),
    )


def _tests(record: Record, now: datetime) -> tuple[Threshold, ...]:
    runs = now if record.partly_unavailable_from and record.restored is None else None
    outage = Bounds(0, 0) if record.planned else outage_bounds(record, now)
    return (
        flag(
            "severe",
            Words("severe and widespread impact on operations", "对运营造成严重且广泛的影响"),
            record.severe_widespread,
            SOURCE,
        ),
        flag(
            "material",
            Words("material impact on service to customers", "对客户服务造成重大影响"),
            record.material_service,
            SOURCE,
        ),
        over(
            "rolling",
            Words("unscheduled downtime in 12 months", "12 个月内的非计划停机时间"),
            rolling(record, now),
            ALLOWED_S,
            "seconds",
            SOURCE,
            runs_from=runs,
        ),
        over(
            "recovery",
            Words("time to restore", "恢复时间"),
            outage,
            ALLOWED_S,
            "seconds",
            SOURCE,
            runs_from=runs,
        ),
    )
