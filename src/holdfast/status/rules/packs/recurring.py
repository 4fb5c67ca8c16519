"""Recurring incidents in the EU: several that are not major each may be one that is.

Regulation (EU) 2024/1772, Article 8(2).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from holdfast.status.rules.assessment import Assessment, any_of
from holdfast.status.rules.downtime import later
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs.eu_dora import assess
from holdfast.status.rules.record import Figure, Record, Row, Told, began, column, downtime_bounds, duration


class Recurrence(msgspec.Struct, frozen=True):
    """Incidents of one apparent root cause that are looked at together."""

    root_cause: str
    ids: tuple[str, ...]
    assessment: Assessment


def recurring(records: Iterable[Record], now: datetime, firm: Firm) -> tuple[Recurrence, ...]:
    """Return how incidents stand together that are not major each, at least two of one cause in six months.

    To be looked at every month (2024/1772, Article 8(2)). Never for microenterprises and firms of
    Article 16(1). Of several groups of one cause, a major one is taken first, else the largest.
    """
    if firm.micro or firm.simplified:
        return ()
    causes: dict[str, list[tuple[datetime, Record]]] = {}
    for record in records:
        start = began(record)[0]
        if record.root_cause and start and assess(record, now, firm).grade != "major":
            causes.setdefault(record.root_cause, []).append((start, record))
    found = []
    for cause, given in causes.items():
        given.sort(key=lambda pair: pair[0])
        groups = [
            [record for at, record in given if later(end, -6) <= at <= end]
            for end in sorted({at for at, _ in given})
        ]
        judged = [
            Recurrence(cause, tuple(one.id for one in group), assess(together(group, now), now, firm))
            for group in groups
            if len(group) >= 2
        ]
        if judged:
            found.append(max(judged, key=lambda one: (one.assessment.grade == "major", len(one.ids))))
    return tuple(found)


def together(records: list[Record], now: datetime) -> Record:
    """Return several incidents as one: what was affected, times and costs add up, what is usual does not."""
    start = min(at for record in records if (at := began(record)[0]))
    lasted = [span for record in records if (span := duration(record, now)) is not None]
    down = [downtime_bounds(record, now) for record in records]
    known = [bounds.most for bounds in down if bounds.most is not None]
    countries = [record.countries for record in records if record.countries is not None]
    costs = [record.costs for record in records if record.costs is not None]
    joined = Record(
        id="+".join(record.id for record in records),
        occurred=start,
        resolved=start + sum(lasted, timedelta()),
        partly_unavailable_from=start if len(known) == len(down) else None,
        restored=start + timedelta(seconds=sum(known)) if len(known) == len(down) else None,
        backlog=False,
        rows=None if any(record.rows is None for record in records) else _rows(records),
        countries=tuple(sorted({one for many in countries for one in many})) if countries else None,
        costs=tuple(cost for many in costs for cost in many) if len(costs) == len(records) else None,
        root_cause=records[0].root_cause,
        told=Told(recurring_at=tuple(at for record in records if (at := began(record)[0]))),
    )
    return msgspec.structs.replace(
        joined, **{name: any_of(getattr(record, name) for record in records) for name in _FACTS}
    )


_FACTS: Final = (
    "supports_critical_function",
    "supervised_service",
    "malicious_access",
    "media",
    "complaints",
    "regulatory",
    "lost_clients",
    "relevant_affected",
    "availability",
    "authenticity",
    "integrity",
    "confidentiality",
)


def _rows(records: list[Record]) -> tuple[Row, ...]:
    """Add up what was affected; keep the largest usual number of each capability and country."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for record in records:
        for row in record.rows or ():
            groups.setdefault((row.capability, row.country), []).append(row)

    def added(rows: list[Row], name: str) -> Figure | None:
        bounds = column(rows, name)
        return None if bounds.exact is None else Figure(bounds.exact, bounds.estimated)

    def usual(rows: list[Row], name: str) -> Figure | None:
        known = [figure for row in rows if (figure := getattr(row, name)) is not None]
        return max(known, key=lambda figure: figure.value, default=None)

    return tuple(
        Row(
            *place,
            payments_affected=added(rows, "payments_affected"),
            value_affected=added(rows, "value_affected"),
            usual_daily_count=usual(rows, "usual_daily_count"),
            usual_daily_value=usual(rows, "usual_daily_value"),
            clients_affected=added(rows, "clients_affected"),
            clients_of_service=usual(rows, "clients_of_service"),
        )
        for place, rows in groups.items()
    )
