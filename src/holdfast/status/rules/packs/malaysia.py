"""Malaysia: Bank Negara, policy document Risk Management in Technology (RMiT), paragraph 10.32.

At the user interface: at most 4 hours of unplanned downtime in any 12 months, and 120 minutes each.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from holdfast.status.rules.assessment import Assessment, Grade, any_of, over
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs.rolling import rolling
from holdfast.status.rules.record import Bounds, Record, outage_bounds
from holdfast.status.words import Words

ID: Final = "my-bnm"
NAME: Final = Words("Malaysia: BNM RMiT", "马来西亚：国家银行 RMiT")
SOURCE: Final = "BNM Risk Management in Technology, paragraph 10.32"


def assess(record: Record, now: datetime, firm: Firm) -> Assessment:  # noqa: ARG001
    """Return how the two allowances stand. No deadline could be confirmed."""
    runs = now if record.partly_unavailable_from and record.restored is None else None
    outage = Bounds(0, 0) if record.planned else outage_bounds(record, now)
    tests = (
        over(
            "rolling",
            Words("unplanned downtime in 12 months", "12 个月内的非计划停机时间"),
            rolling(record, now),
            4 * 3600,
            "seconds",
            SOURCE,
            runs_from=runs,
        ),
        over(
            "incident",
            Words("downtime of this incident", "本次事件的停机时间"),
            outage,
            120 * 60,
            "seconds",
            SOURCE,
            runs_from=runs,
        ),
    )
    broken = any_of(test.met for test in tests)
    grade: Grade = "exceeded" if broken else "unknown" if broken is None else "not_reportable"
    return Assessment(
        pack=ID,
        name=NAME,
        grade=grade,
        tests=tests,
        deadlines=(),
        at=now,
        in_force_from=None,
        in_force=True,
        in_force_sure=False,
        tipping=() if broken else tuple(test.id for test in tests),
        notes=(
            Words(
                "By when an incident must be told to Bank Negara is not known here: ask.",
                "向国家银行报告的时限未能确认，请咨询。",
            ),
        ),
    )
