"""How each day went: for bars of 90 days, from the periods of incidents and from what was measured.

Time in which nothing could be measured is shown as such and counts neither way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from holdfast.status.model import Incident, Period, Standing, rank, worst

DAYS: Final = 90
_DAY: Final = timedelta(days=1)
_WEIGHT: Final[dict[Standing, float]] = {"partial_outage": 0.3, "major_outage": 1.0}
"""How much of a second counts as down: a partial outage as 0.3, as Statuspage's uptime does."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one component. `share_up` is None where the service did not run for any of it."""

    date: str
    standing: Standing
    share_up: float | None


def days(
    incidents: Iterable[Incident], components: Iterable[str], now: datetime, since: datetime
) -> dict[str, list[Day]]:
    """Return the last 90 days (UTC) of every component, oldest first."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - (DAYS - 1) * _DAY
    periods: dict[str, list[Period]] = {}
    for one in incidents:
        for period in one.periods:
            if period.end_at is None or period.end_at > first:
                periods.setdefault(period.component, []).append(period)
    starts = [first + number * _DAY for number in range(DAYS)]
    quiet = [Day(start.date().isoformat(), "operational", _known(start, now, since)) for start in starts]
    return {
        id_: [_day(start, periods[id_], now, since) for start in starts] if id_ in periods else quiet
        for id_ in components
    }


def _known(start: datetime, now: datetime, since: datetime) -> float | None:
    return 1.0 if since < min(start + _DAY, now) else None


def _day(start: datetime, periods: list[Period], now: datetime, since: datetime) -> Day:
    begin, end = max(start, since), min(start + _DAY, now)
    whole_s = (end - begin).total_seconds()
    if whole_s <= 0:
        return Day(start.date().isoformat(), "operational", None)
    cuts: list[tuple[datetime, datetime, Standing]] = []
    for period in periods:
        from_, to = max(period.start_at, begin), min(period.end_at or now, end)
        if from_ < to:
            cuts.append((from_, to, period.standing))
    down_s = _weighted_s(cuts)
    return Day(start.date().isoformat(), worst(*(cut[2] for cut in cuts)), 1.0 - down_s / whole_s)


def _weighted_s(cuts: list[tuple[datetime, datetime, Standing]]) -> float:
    """Return the seconds that count as down; where periods overlap, the worst of them counts."""
    marks = sorted({mark for from_, to, _ in cuts for mark in (from_, to)})
    total = 0.0
    for from_, to in pairwise(marks):
        here = [standing for start, end, standing in cuts if start <= from_ and end >= to]
        if here:
            total += _WEIGHT.get(max(here, key=rank), 0.0) * (to - from_).total_seconds()
    return total


def share_up(history: Iterable[Day]) -> float | None:
    """Return the share of time that a component was up, over the days that are known."""
    known = [day.share_up for day in history if day.share_up is not None]
    return sum(known) / len(known) if known else None
