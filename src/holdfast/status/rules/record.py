"""One evidence record for each incident: what was measured and what people told, for every regulator at once.

None says "not known", never "no". A figure says whether it is measured or estimated. What the rules compare
are bounds: a sum of which one part is missing still has a least value, and that alone may meet a threshold.

The clock of the EU (DORA, Commission Delegated Regulation (EU) 2024/1772, Article 3(2)) runs from partial or
full unavailability until the service is restored and, where work is left over, until the delayed service has
been fully provided. Payments kept in a queue therefore keep it running until the last one is delivered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from holdfast.status.rules.downtime import Stop
from holdfast.status.rules.errors import RecordInvalid

ROWS_MAX: Final = 10_000
"""Rows of one record: capabilities times countries; 40 of one in each of 250 of the other."""

Cause = Literal["technical", "security", "external", "unknown"]

CostKind = Literal[
    "expropriated_funds",
    "replacement",
    "staff",
    "contract_fees",
    "redress",
    "forgone_revenue",
    "communication",
    "advice",
]
"""The kinds of cost and loss of Regulation (EU) 2024/1772, Article 7(1), points (a) to (h), in its order."""


class Figure(msgspec.Struct, frozen=True):
    """A number that is known: measured, or estimated from comparable times. Its unit is the field's."""

    value: float
    estimated: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise RecordInvalid(f"{self.value}: a figure is a number from 0 on. Leave it out if not known.")


class Bounds(msgspec.Struct, frozen=True):
    """Between which values a number lies. None: no such bound is known."""

    least: float | None = None
    most: float | None = None
    estimated: bool = False

    @classmethod
    def of(cls, figure: Figure | None) -> Bounds:
        """Return the bounds of one figure: both are its value, or none is known."""
        return cls() if figure is None else cls(figure.value, figure.value, figure.estimated)

    @property
    def exact(self) -> float | None:
        """The value where both bounds agree, else None."""
        return self.least if self.least == self.most else None


class Row(msgspec.Struct, frozen=True):
    """What one capability went through in one country (ISO 3166-1 alpha-2).

    Values are in whole units of the firm's reporting currency; usual numbers are averages of one day.
    """

    capability: str
    country: str
    payments_affected: Figure | None = None
    value_affected: Figure | None = None
    usual_daily_count: Figure | None = None
    usual_daily_value: Figure | None = None
    clients_affected: Figure | None = None
    clients_of_service: Figure | None = None


class Cost(msgspec.Struct, frozen=True):
    """A cost or loss in EUR, gross: recoveries are never taken off (Regulation (EU) 2024/1772, Article 7)."""

    kind: CostKind
    eur: Figure


class Message(msgspec.Struct, frozen=True):
    """Something said to the outside, for the log of communications."""

    at: datetime
    to: Literal["clients", "authority", "public", "partners", "staff"]
    text: str


class Submitted(msgspec.Struct, frozen=True):
    """When reports went to the authority. `updated_at` is the latest updated intermediate report."""

    initial_at: datetime | None = None
    intermediate_at: datetime | None = None
    updated_at: datetime | None = None
    final_at: datetime | None = None


class Told(msgspec.Struct, frozen=True):
    """What only people can tell. The numbers are the fields of Regulation (EU) 2025/302.

    What has a list of answers is checked when a report is made. None, "" and () say: not told.
    """

    reference: str = ""  # 2.1
    description: str = ""  # 2.4
    discovered_by: str = ""  # 2.7
    third_party: str = ""  # 2.8
    continuity_plan: bool | None = None  # 2.9
    other: str = ""  # 2.10
    authority_reference: str = ""  # 3.1
    reputation: str = ""  # 3.14
    state_impacts: tuple[str, ...] = ()  # 3.18
    states_description: str = ""  # 3.19
    data_losses: str = ""  # 3.21
    critical_services: str = ""  # 3.22
    types: tuple[str, ...] = ()  # 3.23
    types_other: str = ""  # 3.24
    techniques: tuple[str, ...] = ()  # 3.25
    techniques_other: str = ""  # 3.26
    functions: str = ""  # 3.27
    infrastructure: str = ""  # 3.28
    infrastructure_description: str = ""  # 3.29
    authorities: tuple[str, ...] = ()  # 3.31
    authorities_other: str = ""  # 3.32
    measures: bool | None = None  # 3.33
    measures_description: str = ""  # 3.34
    indicators: str = ""  # 3.35
    cause_groups: tuple[str, ...] = ()  # 4.1
    causes: tuple[str, ...] = ()  # 4.2
    causes_more: tuple[str, ...] = ()  # 4.3
    causes_other: str = ""  # 4.4
    causes_description: str = ""  # 4.5
    resolution: str = ""  # 4.6
    cause_addressed: datetime | None = None  # 4.7
    plan_differs: str = ""  # 4.9
    resolution_risk: str = ""  # 4.10
    resolvability: str = ""  # 4.11
    economic: str = ""  # 4.12
    recoveries: Figure | None = None  # 4.14, EUR
    recurring: str = ""  # 4.15
    recurring_at: tuple[datetime, ...] = ()  # 4.16


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence of one incident. Every time is UTC or at least carries its zone; None: not (yet) known.

    `rows` None, `countries` None: not known; (): known to be none. `backlog` says whether work was left over
    when the service was restored: while that is not known, the clock of the EU is taken to run on.
    Raises: `RecordInvalid`.
    """

    id: str
    occurred: datetime | None = None
    first_logged: datetime | None = None
    """The earliest trace in a log, where the moment of occurrence is not known."""
    detected: datetime | None = None
    aware: datetime | None = None
    classified: datetime | None = None
    """When it was classified as major."""
    partly_unavailable_from: datetime | None = None
    unavailable: bool | None = None
    """False: nothing was ever unavailable, not even in part."""
    restored: datetime | None = None
    backlog: bool | None = None
    backlog_drained: datetime | None = None
    resolved: datetime | None = None
    reclassified: bool = False
    """True: reported as major, found not to be."""
    planned: bool = False

    rows: tuple[Row, ...] | None = None
    clients_affected: Figure | None = None
    """All clients, each counted once: wanted where several capabilities were touched."""
    counterparts_affected: Figure | None = None
    counterparts_of_service: Figure | None = None
    relevant_affected: bool | None = None
    countries: tuple[str, ...] | None = None
    """Countries that felt it, ISO 3166-1 alpha-2."""

    supports_critical_function: bool | None = None
    supervised_service: bool | None = None
    malicious_access: bool | None = None
    """Successful, malicious and unauthorised access to systems, after which data may be lost."""
    media: bool | None = None
    complaints: bool | None = None
    regulatory: bool | None = None
    lost_clients: bool | None = None
    availability: bool | None = None
    authenticity: bool | None = None
    integrity: bool | None = None
    confidentiality: bool | None = None
    """The four: an impact on data that harms the aims of the business or its duties."""
    financial_interest: bool | None = None
    """Clients lost, or may lose, money."""
    costs: tuple[Cost, ...] | None = None

    severe_widespread: bool | None = None
    material_service: bool | None = None
    escalated: bool | None = None
    crisis_mode: bool | None = None
    other_firms: bool | None = None
    harm_consumers: bool | None = None
    harm_market: bool | None = None
    harm_soundness: bool | None = None
    settlement_delayed: bool | None = None
    fraud: bool | None = None
    peak: bool | None = None
    provinces: tuple[str, ...] | None = None
    records_leaked: Figure | None = None
    customers_leaked: Figure | None = None
    duplicate_settlement: bool | None = None
    publicity: bool | None = None
    """Major adverse publicity is possible."""

    cause: Cause = "unknown"
    root_cause: str = ""
    """The apparent root cause in few words: equal words are one cause."""
    earlier: tuple[Stop, ...] | None = None
    """Earlier stops of the same critical system."""
    told: Told = Told()
    submitted: Submitted = Submitted()
    log: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        for name in _TIMES:
            moment = getattr(self, name)
            if moment is not None and moment.utcoffset() is None:
                raise RecordInvalid(f"{name}: the time has no zone. Give it in UTC.")
        for first, last in _ORDER:
            start, end = getattr(self, first), getattr(self, last)
            if start is not None and end is not None and end < start:
                raise RecordInvalid(f"{last}: it is before {first}. Correct one of them.")
        if self.unavailable is False and self.partly_unavailable_from is not None:
            raise RecordInvalid("unavailable: False, yet partly_unavailable_from is given. Take one out.")
        if self.backlog is False and self.backlog_drained is not None:
            raise RecordInvalid("backlog: False, yet backlog_drained is given. Take one out.")
        if len(self.rows or ()) > ROWS_MAX:
            raise RecordInvalid(f"rows: {ROWS_MAX} at most. Add up what belongs together.")


_TIMES: Final = (
    "occurred",
    "first_logged",
    "detected",
    "aware",
    "classified",
    "partly_unavailable_from",
    "restored",
    "backlog_drained",
    "resolved",
)
_ORDER: Final = (
    ("partly_unavailable_from", "restored"),
    ("partly_unavailable_from", "backlog_drained"),
    ("occurred", "resolved"),
    ("detected", "resolved"),
)


def known_at(record: Record) -> datetime | None:
    """Return when the firm knew: aware, else detected. None: not told."""
    return record.aware or record.detected


def began(record: Record) -> tuple[datetime | None, bool]:
    """Return when it began, and whether that is a stand-in.

    Regulation (EU) 2024/1772, Article 3(1): occurrence; where that is not known, the earlier of detection and
    the first trace in logs.
    """
    if record.occurred is not None:
        return record.occurred, False
    known = [moment for moment in (record.detected, record.first_logged) if moment is not None]
    return (min(known) if known else None), True


def duration(record: Record, now: datetime) -> timedelta | None:
    """Return how long it has lasted, from its beginning until resolved or now. None: beginning not known.

    Regulation (EU) 2024/1772, Article 3(1).
    """
    start, _ = began(record)
    return None if start is None else max((record.resolved or now) - start, timedelta())


def downtime(record: Record, now: datetime) -> timedelta | None:
    """Return the service downtime: until restored and until the backlog is drained. None: not known.

    Regulation (EU) 2024/1772, Article 3(2). Whether work is left over not known: taken to be.
    """
    most = downtime_bounds(record, now).most
    return None if most is None else timedelta(seconds=most)


def recovered(record: Record) -> datetime | None:
    """Return when everything was provided again: restored, backlog drained. None: not yet."""
    if record.restored is None or (record.backlog is not False and record.backlog_drained is None):
        return None
    return max(record.restored, record.backlog_drained or record.restored)


def downtime_bounds(record: Record, now: datetime) -> Bounds:
    """Return the service downtime in seconds. Its bounds differ while a backlog is possible."""
    start = record.partly_unavailable_from
    if start is None:
        return Bounds(0, 0) if record.unavailable is False else Bounds()
    end = recovered(record)
    most = max(((end or now) - start).total_seconds(), 0)
    if end is None and record.restored is not None and record.backlog is None:
        return Bounds((record.restored - start).total_seconds(), most, estimated=True)
    return Bounds(most, most)


def outage_bounds(record: Record, now: datetime) -> Bounds:
    """Return for how many seconds the service itself was not, or not fully, there; backlogs aside."""
    start = record.partly_unavailable_from
    if start is None:
        return Bounds(0, 0) if record.unavailable is False else Bounds()
    seconds = max(((record.restored or now) - start).total_seconds(), 0)
    return Bounds(seconds, seconds)


def total(figures: Iterable[Figure | None]) -> Bounds:
    """Return the sum of some figures. One that is not known leaves the sum without an upper bound."""
    given = list(figures)
    known = [figure for figure in given if figure is not None]
    if not known:
        return Bounds()
    least = sum(figure.value for figure in known)
    return Bounds(
        least, least if len(known) == len(given) else None, any(figure.estimated for figure in known)
    )


def column(rows: Iterable[Row], name: str) -> Bounds:
    """Return the sum of one column of some rows."""
    return total(getattr(row, name) for row in rows)


def share(part: Bounds, whole: Bounds) -> Bounds:
    """Return a part of a whole, 1 being all. Nothing is 0 of any whole; of an empty one, not known."""
    if part.most == 0:
        return Bounds(0, 0, part.estimated)
    if whole.exact is None or whole.exact <= 0 or part.least is None:
        return Bounds()
    most = None if part.most is None else part.most / whole.exact
    return Bounds(part.least / whole.exact, most, part.estimated or whole.estimated)


def largest(bounds: Iterable[Bounds]) -> Bounds:
    """Return the bounds of the largest of some numbers; none known of none."""
    given = list(bounds)
    least = [one.least for one in given if one.least is not None]
    most = [one.most for one in given if one.most is not None]
    return Bounds(
        max(least, default=None),
        max(most) if most and len(most) == len(given) else None,
        any(one.estimated for one in given),
    )


def by_capability(record: Record) -> dict[str, tuple[Row, ...]]:
    """Return the rows of each capability, countries together: the laws count by affected service."""
    groups: dict[str, list[Row]] = {}
    for row in record.rows or ():
        groups.setdefault(row.capability, []).append(row)
    return {capability: tuple(rows) for capability, rows in groups.items()}


def costs_eur(record: Record) -> Bounds:
    """Return all costs and losses in EUR, gross (Regulation (EU) 2024/1772, Article 7(4))."""
    if record.costs is None:
        return Bounds()
    return total(cost.eur for cost in record.costs) if record.costs else Bounds(0, 0)
